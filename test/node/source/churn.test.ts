import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { ChurnDay } from '../simulation/churn/day.ts'
import { stopClock } from '../simulation/clock.ts'

/** More of them find rarer moments: `npm run churn:day` plays a day. */
const HOURS = Number(process.env.EDGESHARD_CHURN_HOURS ?? 0.05)
const SEED = Number(process.env.EDGESHARD_CHURN_SEED ?? 1)

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

test(`in ${HOURS} hours in which devices join, go, sleep and fail at random every answer is right or says what was lost`, async () => {
  const result = await new ChurnDay({ seed: SEED, hours: HOURS }).play()
  const { problems, ...counts } = result
  if (HOURS > 1 || problems.length > 0) process.stdout.write(`${JSON.stringify(counts)}\n`)
  expect(problems.join('\n\n')).toBe('')
  expect(counts.answers.equal).toBeGreaterThan(0)
})
