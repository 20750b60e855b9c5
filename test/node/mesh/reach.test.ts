import { expect, test } from 'vitest'
import { Reach } from '../../../node/mesh/reach.ts'

test('who waits for a connection hears at once that it cannot be made, and for a while it is not tried by plans', async () => {
  let nowMs = 0
  const dialled: string[] = []
  const reach: Reach = new Reach(
    peerId => void dialled.push(peerId),
    () => nowMs
  )
  expect(reach.failed('far'), 'nobody needed it').toBe(false)
  expect(reach.isOutOfReach('far')).toBe(false)
  for (const forMs of [30_000, 60_000]) {
    const connecting = reach.connect('far')
    expect(reach.failed('far')).toBe(true)
    await connecting
    nowMs += forMs - 1
    expect(reach.isOutOfReach('far')).toBe(true)
    nowMs += 1
    expect(reach.isOutOfReach('far')).toBe(false)
  }
  const connecting = reach.connect('far')
  reach.failed('far')
  await connecting
  reach.came('far')
  expect(reach.isOutOfReach('far')).toBe(false)
  expect(dialled).toEqual(['far', 'far', 'far'])
})
