import { expect, test } from 'vitest'
import { Neighbourhood } from '../../../node/mesh/neighbourhood.ts'
import { SimulatedTime } from './simulated-relays.ts'

function chosenOf(alive: string[], failing: string[]) {
  const dialled = new Set<string>()
  const neighbourhood = new Neighbourhood({
    peerId: 'own',
    size: { border: 3, chosen: 2 },
    timers: new SimulatedTime(),
    alive: () => alive,
    lost: () => [],
    connected: () => [],
    isIn: () => true,
    isOwners: device => device.startsWith('owner'),
    isReachedWithout: () => true,
    isInUse: () => false,
    isFailing: device => failing.includes(device),
    dial: device => void dialled.add(device),
    say: () => {},
    part: () => {}
  })
  neighbourhood.look()
  neighbourhood.stop()
  expect(dialled).toEqual(neighbourhood.chosen)
  return [...dialled].sort()
}

test('who was dialled in vain is chosen after all others, and not never', () => {
  expect(chosenOf(['owner a', 'owner b', 'c', 'd'], ['owner a', 'owner b'])).toEqual(['c', 'd'])
  expect(chosenOf(['a', 'b', 'c', 'd'], ['a', 'b', 'c', 'd'])).toHaveLength(2)
  expect(chosenOf(['a', 'b', 'c', 'd'], ['a', 'b', 'd'])).toContain('c')
})
