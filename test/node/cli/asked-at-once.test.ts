import { expect, test } from 'vitest'
import { askedAtOnce } from '../../../node/cli/asked-at-once.ts'

/** Counts to three, and says what was asked for and whether it was left. */
function counted(failsAt = 4) {
  const seen = { asked: 0, left: false }
  const events = (async function* () {
    try {
      for (let i = 1; i <= 3; i++) {
        seen.asked = i
        if (i === failsAt) throw new Error('no more')
        yield i
      }
    } finally {
      seen.left = true
    }
  })()
  return { seen, events }
}

test('the first event is asked for before anybody reads, and all come in order', async () => {
  const { seen, events } = counted()
  const asked = askedAtOnce(events)
  expect(seen.asked).toBe(1)
  const read: number[] = []
  for await (const event of asked) read.push(event)
  expect(read).toEqual([1, 2, 3])
})

test('what fails at once is heard by who reads, and who leaves ends it', async () => {
  const failing = askedAtOnce(counted(1).events)
  await new Promise(resolve => setImmediate(resolve))
  await expect(failing.next()).rejects.toThrow('no more')
  const { seen, events } = counted()
  for await (const _ of askedAtOnce(events)) break
  expect(seen).toEqual({ asked: 1, left: true })
})
