import { expect, test } from 'vitest'
import { deadlineMs } from '../../fixtures/machine.ts'
import { playSchedules } from './schedules.ts'

/** `npm run test:membership` plays 10,000. */
const SCHEDULES = 300

test('whatever order things happen in, nobody banned is in, nobody else is out, and all know the same', {
  timeout: deadlineMs(60_000)
}, () => {
  for (const count of Object.values(playSchedules(SCHEDULES))) expect(count).toBeGreaterThan(SCHEDULES / 10)
})
