// Plays random schedules of a simulated mesh: `node test/node/mesh/schedules.ts [--schedules 10000] [--seed 1]`. Each is
// made again from its seed, which a failure names.
import assert from 'node:assert/strict'
import { parseArgs } from 'node:util'
import { Random } from '../../protocols/mutate.ts'
import { SimulatedMesh, whoIsIn } from './simulated-mesh.ts'

const STEPS = 60

/** How often something happened; where that is never, nothing is shown. */
export type Seen = Record<'outside' | 'banned' | 'owners' | 'attacks' | 'taken' | 'refused', number>

/** Plays so many schedules. @throws {AssertionError} that tells all that happened in one that ends wrongly */
export function playSchedules(count: number, firstSeed = 1): Seen {
  const seen: Seen = { outside: 0, banned: 0, owners: 0, attacks: 0, taken: 0, refused: 0 }
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    for (const [what, times] of Object.entries(play(seed))) seen[what as keyof Seen] += times
  }
  return seen
}

function play(seed: number): Seen {
  const world = new SimulatedMesh(new Random(seed))
  const happened: string[] = []
  const about = () => `seed ${seed}:\n${happened.filter(text => text !== '').join('\n')}`
  try {
    for (let i = 0; i < STEPS; i++) happened.push(world.step())
    world.heal()
  } catch (error) {
    throw new Error(`${(error as Error).message}; ${about()}`, { cause: error })
  }
  const right = whoIsIn(world.founder.peerId, world.said)
  const { digest, banned, owners } = world.founder.roll.known
  for (const device of world.devices.filter(({ peerId }) => right.has(peerId))) {
    assert.deepEqual(device.roll.known.devices.toSorted(), [...right].sort(), about())
    assert.equal(device.roll.known.digest, digest, about())
    for (const other of world.devices)
      assert.equal(world.meet(device, other), right.has(other.peerId), about())
  }
  const times = (pattern: RegExp) => happened.filter(text => pattern.test(text)).length
  return {
    outside: world.devices.filter(({ peerId }) => !right.has(peerId)).length,
    banned: banned.length,
    owners: owners.length - 1,
    attacks: times(/ attacks .*: with/),
    taken: times(/a ticket: null/),
    refused: times(/a ticket: ticket-/)
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      schedules: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' }
    }
  })
  const seen = playSchedules(Number(values.schedules), Number(values.seed))
  const counts = Object.entries(seen).map(([what, count]) => `${what} ${count}`)
  process.stdout.write(
    `${values.schedules} schedules of ${STEPS} steps: nobody banned is in, nobody else is out, all know the same (${counts.join(', ')})\n`
  )
}
