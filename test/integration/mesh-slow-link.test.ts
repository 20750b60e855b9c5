import { afterEach, expect, test } from 'vitest'
import { GONE_AFTER_MS } from '../../protocols/directory/constants.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'
import { SlowRelay } from '../node/mesh/slow-relay.ts'

const MBPS = 125_000
/** What fills the link for longer than a peer may be silent. */
const TOKENS = 500
const HIDDEN_SIZE = Math.ceil((1.2 * GONE_AFTER_MS * MBPS) / 1000 / TOKENS / 4)

const meshes = new Meshes()
afterEach(() => meshes.stop())

test('a slow link that is busy for longer than a peer may be silent is not taken for a dead peer, on either side', {
  timeout: deadlineMs(90_000)
}, async () => {
  let received = 0
  const stage = {
    allocate: () => new Float32Array(new SharedArrayBuffer(TOKENS * HIDDEN_SIZE * 4)),
    onFrame: () => void received++,
    onLost: () => {}
  }
  const b = await meshes.add('b', { handlers: { stage } })
  await using relay = await SlowRelay.start(Number(/\/tcp\/(\d+)/.exec(b.addresses[0]!)![1]), MBPS)
  const a = await meshes.add('a', { peers: [`/ip4/127.0.0.1/tcp/${relay.port}/p2p/${b.peerId}`] })
  await until(() => a.peers.length + b.peers.length === 2)
  const trouble: string[] = []
  for (const mesh of [a, b]) {
    mesh.events.on('suspect', (_, suspect) => void trouble.push(`${mesh.self.name} suspects: ${suspect}`))
    mesh.events.on('disconnect', () => void trouble.push(`${mesh.self.name} has lost the other`))
  }
  const hidden = new Float32Array(new SharedArrayBuffer(TOKENS * HIDDEN_SIZE * 4))
  await a.stageStreams.send(b.peerId, {
    type: 'hidden',
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    tokens: TOKENS,
    hiddenSize: HIDDEN_SIZE,
    sample: false,
    timings: [],
    hidden
  })
  await until(() => received === 1)
  expect(trouble).toEqual([])
})
