// How soon a link's rate that falls while frames flow is known: two real nodes in this process, a relay between them that
// passes 100 and then 5 Mbps. `npm run bench:link-fall`; needs a machine with little else to do.

import type { Mesh } from '../../node/mesh/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'
import { SlowRelay } from '../node/mesh/slow-relay.ts'

const FAST_MBPS = 100
const SLOW_MBPS = 5
const WAIT_MS = 15_000
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

commandOptions(import.meta.url, {})
for (const { what, tokens, everyMs } of [
  { what: 'tokens of 4096 hidden values', tokens: 1, everyMs: 50 },
  { what: 'chunks of 64 such tokens', tokens: 64, everyMs: 100 }
]) {
  const meshes = new Meshes()
  try {
    const { from, to, relay } = await pair(meshes)
    const known = () => from.links.find(link => link.from === from.peerId && link.to === to.peerId)?.mbps
    await until(() => known() !== undefined)
    const before = known()!
    let flowing = true
    const flow = async () => {
      while (flowing) {
        await send(from, to, tokens)
        await pause(everyMs)
      }
    }
    const flows = flow()
    await pause(5000)
    const during = known()!
    relay.bytesPerSecond = (SLOW_MBPS * 1e6) / 8
    const fellMs = performance.now()
    while (known()! > 2 * SLOW_MBPS && performance.now() - fellMs < WAIT_MS) await pause(20)
    const tookS = ((performance.now() - fellMs) / 1000).toFixed(1)
    const after = known()!
    flowing = false
    await flows
    const figures = [before, during, after].map(mbps => mbps.toFixed(1)).join(', ')
    process.stdout.write(
      `${what}: measured, in traffic, after the fall ${figures} Mbps; known to the sender after ${tookS} s\n`
    )
    await relay[Symbol.asyncDispose]()
  } finally {
    await meshes.stop()
  }
}

/** Two that are connected through a relay, and no other way. */
async function pair(meshes: Meshes): Promise<{ from: Mesh; to: Mesh; relay: SlowRelay }> {
  const stage = {
    allocate: (_: string, header: { tokens: number; hiddenSize: number }) =>
      new Float32Array(new SharedArrayBuffer(4 * header.tokens * header.hiddenSize)),
    onFrame: () => {},
    onLost: () => {}
  }
  const to = await meshes.add('to', { handlers: { stage } })
  const port = Number(/\/tcp\/(\d+)/.exec(to.addresses[0]!)![1])
  const relay = await SlowRelay.start(port, (FAST_MBPS * 1e6) / 8)
  const from = await meshes.add('from', {
    peers: [`/ip4/127.0.0.1/tcp/${relay.port}/p2p/${to.peerId}`],
    handlers: { stage }
  })
  await until(() => from.peers.length + to.peers.length === 2)
  return { from, to, relay }
}

async function send(from: Mesh, to: Mesh, tokens: number): Promise<void> {
  const sentAtMs = performance.timeOrigin + performance.now()
  await from.stageStreams.send(to.peerId, {
    type: 'hidden',
    rows: [{ sessionId: 'ab'.repeat(16), position: 0, epoch: 0 }],
    tokens,
    hiddenSize: 4096,
    sample: false,
    timings: [{ arrivedAtMs: sentAtMs, sentAtMs, computeMs: 0 }],
    hidden: new Float32Array(new SharedArrayBuffer(4 * 4096 * tokens))
  })
}
