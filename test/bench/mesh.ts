// Figures of the links between two nodes on loopback, in one process: `node test/bench/mesh.ts`. A second process would
// have a processor of its own, so these are upper bounds of time and lower bounds of rate.

import { once } from 'node:events'
import type { Mesh } from '../../node/mesh/index.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { Meshes } from '../node/mesh/fixtures.ts'

const MIB = 2 ** 20
const BLOB_BYTES = 256 * MIB
const HIDDEN_SIZE = 4096
const STEPS = 2000

commandOptions(import.meta.url, {})
const meshes = new Meshes()
const memory = new Float32Array(new SharedArrayBuffer(4 * HIDDEN_SIZE))
const echoes = new EventTarget()
const chunk = new Uint8Array(MIB)
let far: Mesh | undefined

const [a, b] = await meshes.connected(
  ['a', 'b'],
  [
    {
      stage: {
        allocate: () => memory,
        onFrame: () => void echoes.dispatchEvent(new Event('echo')),
        onLost() {}
      }
    },
    {
      stage: {
        allocate: () => memory,
        onFrame: (peerId, frame) => void far!.stageStreams.send(peerId, frame),
        onLost() {}
      },
      weights: {
        open: async () => ({
          bytes: BLOB_BYTES,
          async *stream(offset: number) {
            for (; offset < BLOB_BYTES; offset += MIB) yield chunk
          }
        })
      }
    }
  ]
)
far = b!
try {
  const idle = await hops(STEPS)
  report('a hop of 16 KiB', idle)
  const startMs = performance.now()
  const fetching = fetchAll()
  const busy = await hops(STEPS / 4)
  await fetching
  const rate = BLOB_BYTES / MIB / ((performance.now() - startMs) / 1000)
  report('a hop while weights flow', busy)
  process.stdout.write(`weights: ${rate.toFixed(0)} MiB/s, with echoes between\n`)
  process.stdout.write(
    `a hop takes ${(median(busy) / median(idle)).toFixed(1)} times as long while weights flow\n`
  )
} finally {
  await meshes.stop()
}

/** Half of the round trip of one token's hidden states, in ms. */
async function hops(count: number): Promise<number[]> {
  const times: number[] = []
  const frame: StageFrame = {
    type: 'hidden',
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    tokens: 1,
    hiddenSize: HIDDEN_SIZE,
    sample: true,
    timings: [],
    hidden: memory
  }
  for (let i = 0; i < count; i++) {
    const startMs = performance.now()
    const echo = once(echoes, 'echo')
    await a!.stageStreams.send(b!.peerId, frame)
    await echo
    times.push((performance.now() - startMs) / 2)
  }
  return times.sort((x, y) => x - y)
}

async function fetchAll(): Promise<void> {
  let left = BLOB_BYTES
  for await (const bytes of a!.fetchRaw(b!.peerId, '0'.repeat(64), { maxBytes: BLOB_BYTES }))
    left -= bytes.byteLength
  if (left !== 0) throw new Error(`${left} bytes are missing`)
}

function median(sorted: number[]): number {
  return sorted[Math.floor(sorted.length / 2)]!
}

function report(what: string, sorted: number[]): void {
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]!.toFixed(3)
  process.stdout.write(
    `${what}: 10th percentile ${at(0.1)} ms, median ${at(0.5)} ms, 99th percentile ${at(0.99)} ms\n`
  )
}
