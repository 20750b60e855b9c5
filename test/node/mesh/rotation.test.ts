import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { MeshRotation } from '../../../node/mesh/rotation.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { Random } from '../../protocols/mutate.ts'

const MEMBERS = ['a', 'b', 'c', 'd']

/** Members that are all connected, over a network that takes its time with every message. */
function mesh(home: string, random: Random) {
  const cut: string[] = []
  const rotations = new Map<string, MeshRotation>()
  for (const name of MEMBERS) {
    const components = {
      home,
      host: {
        connected: MEMBERS.filter(other => other !== name),
        disconnect: (other: string) => void cut.push(`${name} dropped ${other}`)
      },
      membership: {
        tell: async (other: string, news: Parameters<MeshRotation['onRotation']>[1]) => {
          await delay(random.next() * 10)
          const reply = await rotations.get(other)!.onRotation(name, news)
          await delay(random.next() * 10)
          return reply
        }
      },
      onNotice() {},
      onKeys: async () => {}
    }
    rotations.set(name, new MeshRotation({ secret: new Uint8Array(32), epoch: 0, banned: [] }, components))
  }
  return { cut, rotations: [...rotations.values()] }
}

test('changes at the same time end with one secret everywhere and nobody cut off, whatever overtakes what', async () => {
  await using folder = await temporaryFolder()
  for (let seed = 1; seed <= 20; seed++) {
    const { cut, rotations } = mesh(folder.path, new Random(seed))
    const reports = await Promise.all(rotations.slice(0, 1 + (seed % 4)).map(rotation => rotation.rotate()))
    expect(cut, `seed ${seed}`).toEqual([])
    const secrets = rotations.map(({ membership }) => Buffer.from(membership.secret).toString('hex'))
    expect(new Set(secrets).size, `seed ${seed}`).toBe(1)
    expect(rotations[0]!.membership.epoch).toBe(1)
    for (const { reached, missed } of reports) expect([reached.length, missed]).toEqual([3, []])
  }
})

test('a banned member is refused and learns nothing; a secret from far ahead is refused', async () => {
  await using folder = await temporaryFolder()
  const [a] = mesh(folder.path, new Random(1)).rotations
  const news = { epoch: 17, secret: 'ab'.repeat(32), banned: [] }
  expect(await a!.onRotation('b', news)).toEqual({ type: 'refused' })
  await a!.rotate({ ban: 'b' })
  expect(await a!.onRotation('b', { ...news, epoch: 1, secret: '0'.repeat(64) })).toEqual({ type: 'refused' })
  const { epoch, banned } = a!.membership
  expect(await a!.onRotation('c', { ...news, epoch: 1, secret: '0'.repeat(64) })).toMatchObject({
    type: 'later',
    rotation: { epoch, banned }
  })
})
