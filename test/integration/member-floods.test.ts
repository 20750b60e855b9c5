import { createHash } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { serializeManifest } from '../../models/manifest.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledManifest, bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'
import { TINY_SHAPE } from '../fixtures/random-model.ts'
import { Meshes } from '../node/mesh/fixtures.ts'
import { rawMember } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Manifests of 300 KiB that are parsed and checked whole before something at their very end is wrong. */
function unsoundManifests(count: number): Map<string, Uint8Array> {
  const random = randomManifest({ ...TINY_SHAPE, decoderLayers: 512 }, undefined)
  const layers = random.layers.map((layer, i) => ({ ...layer, sha256: sha256(Buffer.from(`${i}`)) }))
  const text = Buffer.from(serializeManifest({ ...random, layers })).toString()
  expect(text.length).toBeGreaterThan(300 * 1024)
  const files = Array.from({ length: count }, (_, i) =>
    Buffer.from(`${text.slice(0, -1)}${' '.repeat(i + 1)}}`)
  )
  return new Map(files.map(bytes => [sha256(bytes), bytes]))
}

test('a member that asks for leases on models of its own whose manifests are no good is read a few of them', {
  timeout: deadlineMs(60_000)
}, async () => {
  await using nodes = new Nodes()
  const victim = await nodes.add({ name: 'victim', memoryBytes: await bundledShare(2) })
  const files = unsoundManifests(16)
  let read = 0
  const evil = await meshes.add('evil', {
    secret: SECRET,
    peers: victim.addresses.slice(0, 1),
    handlers: {
      weights: {
        open: async id => {
          const bytes = files.get(id)
          if (bytes === undefined) return null
          read++
          return {
            bytes: bytes.length,
            async *stream(offset: number) {
              yield bytes.subarray(offset)
            }
          }
        }
      }
    }
  })
  const honest = await meshes.add('honest', { secret: SECRET, peers: victim.addresses.slice(0, 1) })
  await until(() => [evil, honest].every(({ peers }) => peers.some(p => p.record.peerId === victim.peerId)))
  const lease = await evil.lease(victim.peerId)
  const ids = [...files.keys()]
  const said: string[] = []
  const flood = async (from: number) => {
    for (let i = 0; i < 40; i++) {
      const modelId = ids[(from + i) % ids.length]!
      const reply = await lease
        .reserve({ modelId, range: [0, 1], maxTokens: 1, sessions: 1 })
        .catch((error: Error) => ({ type: 'failed', reason: error.message }))
      said.push(reply.type === 'granted' ? 'granted' : 'reason' in reply ? reply.reason : '')
    }
  }
  await Promise.all([0, 5, 10].map(flood))
  expect(said).toHaveLength(120)
  expect(said).not.toContain('granted')
  // Eight MiB of them, at four times what they weigh, and what time pays back meanwhile.
  expect(read).toBeGreaterThan(1)
  expect(read).toBeLessThan(20)
  expect(said.filter(reason => reason.includes('too many manifests')).length).toBeGreaterThan(80)
  // Others are served as before.
  const model = sha256(serializeManifest(await bundledManifest()))
  const own = await honest.lease(victim.peerId)
  expect(await own.reserve({ modelId: model, range: [1, 2], maxTokens: 16, sessions: 1 })).toMatchObject({
    type: 'granted'
  })
  expect((await answer(victim, ask('What is a pump?', { maxTokens: 4 }))).tokens).toHaveLength(4)
})

test('a member with many identities, which come and go, drives no honest one out, and none of them stays', {
  timeout: deadlineMs(60_000)
}, async () => {
  const [victim, honest] = await meshes.connected(['victim', 'honest'])
  const lost: string[] = []
  victim!.events.on('disconnect', (_, { name }) => void lost.push(name))
  const identities = new Set<string>()
  for (let round = 0; round < 2; round++) {
    const members = await Promise.all(Array.from({ length: 6 }, () => rawMember(victim!)))
    for (const { connected } of members) expect(connected).toEqual([victim!.peerId])
    for (const member of members) identities.add(member.peerId)
    await Promise.all(members.map(member => member.stop()))
  }
  expect(identities.size).toBe(12)
  expect(victim!.peers.filter(({ connected }) => connected).map(({ record }) => record.name)).toEqual([
    'honest'
  ])
  expect(lost).toEqual([])
  honest!.update({ memory: { budgetBytes: 1000, freeBytes: 7 } })
  await until(() => victim!.peers[0]?.record.memory.freeBytes === 7)
})
