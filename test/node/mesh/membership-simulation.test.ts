import { expect, test } from 'vitest'
import { deadlineMs } from '../../fixtures/machine.ts'
import { Random } from '../../protocols/mutate.ts'
import { SimulatedMesh, whoIsIn } from './simulated-mesh.ts'

/** `npm run test:membership` runs 10,000. */
const SCHEDULES = Number(process.env.EDGESHARD_TEST_SCHEDULES ?? 300)
const STEPS = 60

test('whatever order things happen in, nobody banned is in, nobody else is out, and all know the same', {
  timeout: deadlineMs(60_000 + SCHEDULES * 100)
}, () => {
  const seen = { outside: 0, banned: 0, owners: 0, attacks: 0, taken: 0, refused: 0 }
  for (let seed = 1; seed <= SCHEDULES; seed++) {
    const random = new Random(seed)
    const world = new SimulatedMesh(random)
    const happened: string[] = []
    for (let i = 0; i < STEPS; i++) happened.push(world.step())
    world.heal()
    const right = whoIsIn(world.founder.peerId, world.said)
    const about = () => `seed ${seed}:\n${happened.filter(text => text !== '').join('\n')}`
    for (const device of world.devices) {
      if (!right.has(device.peerId)) continue
      expect([...device.roll.known.devices].sort(), about()).toEqual([...right].sort())
      expect(device.roll.known.digest, about()).toBe(world.founder.roll.known.digest)
      for (const other of world.devices) {
        const met = world.meet(device, other)
        expect(met, about()).toBe(right.has(other.peerId))
      }
    }
    seen.outside += world.devices.filter(({ peerId }) => !right.has(peerId)).length
    seen.banned += world.founder.roll.known.banned.length
    seen.owners += world.founder.roll.known.owners.length - 1
    seen.attacks += happened.filter(text => / attacks .*: with/.test(text)).length
    seen.taken += happened.filter(text => /a ticket: null/.test(text)).length
    seen.refused += happened.filter(text => /a ticket: ticket-/.test(text)).length
  }
  process.stderr.write(`${SCHEDULES} schedules: ${JSON.stringify(seen)}\n`)
  // Where nothing of it happens nothing is shown.
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(SCHEDULES / 10)
})
