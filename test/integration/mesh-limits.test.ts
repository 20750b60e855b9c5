import { randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { MAX_WEIGHT_CREDIT_BYTES, MAX_WEIGHT_SERVES_PER_PEER } from '../../protocols/weights/constants.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const MIB = 2 ** 20
const settle = () => new Promise(resolve => setTimeout(resolve, 300))

test('a stage that does not keep up holds its sender back; nothing piles up and nothing is lost', async () => {
  let received = 0
  const release: (() => void)[] = []
  const [a, b] = await meshes.connected(
    ['a', 'b'],
    [
      {},
      {
        stage: {
          allocate: (_, { tokens, hiddenSize }) =>
            new Float32Array(new SharedArrayBuffer(tokens * hiddenSize * 4)),
          onFrame: () => {
            received++
            return new Promise<void>(resolve => release.push(resolve))
          },
          onLost() {}
        }
      }
    ]
  )
  const hidden = new Float32Array(new SharedArrayBuffer(4 * MIB))
  const head = {
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    tokens: 256,
    hiddenSize: 4096,
    sample: false,
    timings: []
  }
  let sent = 0
  const sends = Array.from({ length: 28 }, () =>
    a!.stageStreams.send(b!.peerId, { ...head, type: 'hidden', hidden }).then(() => sent++)
  )
  await until(() => received >= 16)
  await settle()
  // 64 MiB wait at the receiver, at most a stream window more is under way.
  expect(received).toBeLessThanOrEqual(17)
  expect(sent).toBeLessThanOrEqual(18)
  const timer = setInterval(() => {
    for (const resolve of release.splice(0)) resolve()
  }, 5)
  await Promise.all(sends)
  await until(() => received === 28)
  clearInterval(timer)
})

test('more than 128 MiB queued for one peer is refused', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const hidden = new Float32Array(new SharedArrayBuffer(32 * MIB))
  const head = {
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    tokens: 512,
    hiddenSize: 16_384,
    sample: false,
    timings: []
  }
  const sends = Array.from({ length: 5 }, () =>
    a!.stageStreams.send(b!.peerId, { ...head, type: 'hidden', hidden })
  )
  await expect(sends.at(-1)).rejects.toMatchObject({ name: 'LimitExceededError' })
  await Promise.all(sends.slice(0, -1))
})

test('a slow consumer of weights is never sent more than its credit', async () => {
  let read = 0
  const blob = randomBytes(16 * MIB)
  const weights = {
    open: async () => ({
      bytes: blob.byteLength,
      async *stream(offset: number) {
        for (; offset < blob.byteLength; offset += 65_536) {
          read = offset
          yield blob.subarray(offset, offset + 65_536)
        }
      }
    })
  }
  const [a, b] = await meshes.connected(['a', 'b'], [{}, { weights }])
  const bytes = a!.fetchRaw(b!.peerId, '0'.repeat(64), { maxBytes: 64 * MIB })
  await bytes.next()
  await settle()
  expect(read).toBeLessThanOrEqual(MAX_WEIGHT_CREDIT_BYTES)
  expect(b!.counters.weightBytesSent).toBeLessThanOrEqual(2 * 65_536)
  await bytes.return(undefined)
})

test('one peer is served a few blobs at a time', async () => {
  const hang = { open: () => new Promise<null>(() => {}) }
  const [a, b] = await meshes.connected(['a', 'b'], [{}, { weights: hang }])
  const abort = new AbortController()
  const fetches = Array.from({ length: MAX_WEIGHT_SERVES_PER_PEER + 1 }, () =>
    a!.fetchRaw(b!.peerId, '0'.repeat(64), { maxBytes: 10, signal: abort.signal }).next()
  )
  await expect(Promise.any(fetches.map(fetch => fetch.catch(error => error)))).resolves.toMatchObject({
    code: 'busy'
  })
  abort.abort()
  await Promise.allSettled(fetches)
})

test('a stage that is gone is reported to both sides at once', async () => {
  const lost: string[] = []
  const stage = { allocate: () => null, onFrame() {}, onLost: (peerId: string) => void lost.push(peerId) }
  const [a, b] = await meshes.connected(['a', 'b'], [{ stage }, {}])
  const head = {
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    tokens: 1,
    hiddenSize: 0,
    sample: false,
    timings: []
  }
  await a!.stageStreams.send(b!.peerId, { ...head, type: 'error', code: 'stage', message: 'none' })
  const gone: string[] = []
  a!.events.on('disconnect', (_, { name }) => void gone.push(name))
  await b!.stop()
  await until(() => gone.length === 1)
  expect(gone).toEqual(['b'])
  expect(lost).toContain(b!.peerId)
  await expect(
    a!.stageStreams.send(b!.peerId, { ...head, type: 'error', code: 'stage', message: 'none' })
  ).rejects.toMatchObject({
    name: 'PeerLostError'
  })
})
