import { createHash, randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { decodeTicket } from '../../node/mesh/ticket.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

test('nodes that know one address all get to know each other', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'])
  expect(a!.peers.map(({ record }) => record.name)).toEqual(['b', 'c'])
  expect(c!.peers.map(({ record }) => record.name)).toEqual(['a', 'b'])
  b!.update({ memory: { budgetBytes: 1000, freeBytes: 10 } })
  await until(() => a!.peers.some(({ record }) => record.memory.freeBytes === 10))
  await a!.measureRtt(a!.peers.map(({ record }) => record.peerId))
  expect(a!.peers.map(({ rttMs }) => rttMs !== null && rttMs > 0 && rttMs < 1000)).toEqual([true, true])
})

test.each(['localhost', '127.0.0.1'])('a peer is reached at %s:PORT', async host => {
  const a = await meshes.add('a')
  const port = /\/tcp\/(\d+)/.exec(a.addresses[0]!)?.[1]
  const b = await meshes.add('b', { peers: [`${host}:${port}`] })
  await until(() => b.peers.length === 1)
  expect(b.peers[0]?.record.peerId).toBe(a.peerId)
})

test('a node with another secret is not let in, and neither side keeps it', async () => {
  const a = await meshes.add('a')
  const stranger = await meshes.add('stranger', { secret: randomBytes(32), peers: a.addresses })
  const notices: string[] = []
  stranger.events.on('notice', text => notices.push(text))
  await expect(stranger.lease(a.peerId)).rejects.toThrow('no connection')
  await new Promise(resolve => setTimeout(resolve, 300))
  expect([a.peers, stranger.peers]).toEqual([[], []])
  await until(() => notices.length > 0)
  expect(notices).toEqual([expect.stringContaining('belongs to another mesh')])
})

test('a ticket carries the addresses and the secret', async () => {
  const a = await meshes.add('a')
  const ticket = decodeTicket(await a.members.invite())
  expect(ticket.addresses).toEqual(a.addresses)
  const b = await meshes.add('b', { secret: ticket.secret, peers: ticket.addresses })
  await until(() => b.peers.length === 1)
  expect(b.peers[0]?.record.peerId).toBe(a.peerId)
})

test('hidden states arrive in memory the receiver gave, tokens return', async () => {
  const memory = new Float32Array(new SharedArrayBuffer(3 * 64 * 4))
  const got: { peerId: string; frame: StageFrame }[] = []
  const [a, b] = await meshes.connected(
    ['a', 'b'],
    [
      {
        stage: {
          allocate: () => null,
          onFrame: (peerId, frame) => void got.push({ peerId, frame }),
          onLost() {}
        }
      },
      {
        stage: {
          allocate: () => memory,
          onFrame: (peerId, frame) => void got.push({ peerId, frame }),
          onLost() {}
        }
      }
    ]
  )
  const hidden = new Float32Array(new SharedArrayBuffer(3 * 64 * 4))
  for (let i = 0; i < hidden.length; i++) hidden[i] = Math.random()
  const timings = [{ arrivedAtMs: 1e12, sentAtMs: 1e12 + 2, computeMs: 1.5 }]
  const head = { rows: [{ sessionId: 'ab'.repeat(16), position: 5 }], tokens: 3, sample: true, timings }
  await a!.stageStreams.send(b!.peerId, { ...head, type: 'hidden', hiddenSize: 64, hidden })
  await until(() => got.length === 1)
  expect(got[0]).toMatchObject({ peerId: a!.peerId, frame: { ...head, type: 'hidden', hiddenSize: 64 } })
  expect(memory).toEqual(hidden)

  const drawn = [{ id: 42, logprob: -0.5, top: [{ id: 7, logprob: -2 }] }]
  await b!.stageStreams.send(a!.peerId, { ...head, type: 'token', tokens: 1, hiddenSize: 0, drawn })
  await until(() => got.length === 2)
  expect(got[1]?.frame).toMatchObject({ type: 'token', drawn })
  expect(a!.counters).toMatchObject({ framesSent: 1, framesReceived: 1, hiddenBytesSent: 3 * 64 * 4 })
})

test('a blob that breaks off at one holder goes on at the next', async () => {
  const blob = randomBytes(3_000_000)
  const ref = { sha256: createHash('sha256').update(blob).digest('hex'), bytes: blob.byteLength }
  const offsets: number[] = []
  const holder = (breakAt: number) => ({
    weights: {
      open: async () => ({
        bytes: blob.byteLength,
        async *stream(offset: number) {
          offsets.push(offset)
          for (let at = offset; at < blob.byteLength; at += 50_000) {
            if (at > breakAt) throw new Error('disk gone')
            yield blob.subarray(at, at + 50_000)
          }
        }
      })
    }
  })
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'], [{}, holder(1_000_000), holder(Infinity)])
  const parts: Uint8Array[] = []
  await a!.fetchBlob(ref, [b!.peerId, c!.peerId], async bytes => {
    for await (const part of bytes) parts.push(part)
  })
  expect(createHash('sha256').update(Buffer.concat(parts)).digest('hex')).toBe(ref.sha256)
  expect(offsets[0]).toBe(0)
  expect(offsets[1]).toBeGreaterThan(0)
  await expect(
    a!.fetchBlob({ ...ref, bytes: 5 }, [c!.peerId], async bytes => {
      for await (const part of bytes) parts.push(part)
    })
  ).rejects.toThrow('3000000 bytes were announced, not 5')
})
