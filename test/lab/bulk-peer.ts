// One side of bulk.ts, in its host's namespace: `serve BYTES` holds weights and sends every frame back, `fetch BYTES ADDRESS` copies
// them and meanwhile sends frames. Prints its address, or what it found.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { cpus } from 'node:os'
import type { Mesh } from '../../node/mesh/index.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const MIB = 2 ** 20
/** 16 KiB in float32. */
const HIDDEN_SIZE = 4096
/** A token of a fast mesh. */
const BETWEEN_MS = 10
const IDLE_ECHOES = 200

export interface BulkResult {
  idleMs: number[]
  busyMs: number[]
  mbps: number
  /** Share of all processors that was used during the copy, by whomever. */
  machineBusy: number
}

const [role, size, address] = process.argv.slice(2)
const blobBytes = Number(size)
const meshes = new Meshes()
if (role === 'serve') await serve()
else await copy(address!)

function processorTimes(): { idle: number; all: number } {
  const sum = { idle: 0, all: 0 }
  for (const { times } of cpus()) {
    sum.idle += times.idle
    sum.all += Object.values(times).reduce((all, ms) => all + ms, 0)
  }
  return sum
}

async function serve(): Promise<void> {
  const chunk = new Uint8Array(MIB)
  const memory = new Float32Array(new SharedArrayBuffer(4 * HIDDEN_SIZE))
  const mesh: Mesh = await meshes.add('b', {
    listen: '0.0.0.0',
    handlers: {
      stage: {
        allocate: () => memory,
        onFrame: (peerId, frame) => void mesh.stageStreams.send(peerId, frame),
        onLost() {}
      },
      weights: {
        open: async () => ({
          bytes: blobBytes,
          async *stream(offset: number) {
            for (; offset < blobBytes; offset += MIB) yield chunk.subarray(0, blobBytes - offset)
          }
        })
      }
    }
  })
  process.stdout.write(`${mesh.addresses[0]}\n`)
}

async function copy(from: string): Promise<void> {
  const memory = new Float32Array(new SharedArrayBuffer(4 * HIDDEN_SIZE))
  const echoes = new EventTarget()
  const mesh = await meshes.add('a', {
    listen: '0.0.0.0',
    peers: [from],
    handlers: {
      stage: {
        allocate: () => memory,
        onFrame: () => void echoes.dispatchEvent(new Event('echo')),
        onLost() {}
      }
    }
  })
  await until(() => mesh.peers.length === 1)
  const peerId = mesh.peers[0]!.record.peerId
  const frame: StageFrame = {
    type: 'hidden',
    rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
    timings: [],
    tokens: 1,
    sample: true,
    hiddenSize: HIDDEN_SIZE,
    hidden: memory
  }
  const echo = async (): Promise<number> => {
    const startMs = performance.now()
    const back = once(echoes, 'echo')
    await mesh.stageStreams.send(peerId, frame)
    await back
    return performance.now() - startMs
  }
  const echoesUntil = async (done: (count: number) => boolean): Promise<number[]> => {
    const times: number[] = []
    while (!done(times.length)) {
      times.push(await echo())
      await new Promise(resolve => setTimeout(resolve, BETWEEN_MS))
    }
    return times
  }
  const fetchAll = async (): Promise<void> => {
    const hash = createHash('sha256')
    await mesh.fetchBlob({ sha256: '0'.repeat(64), bytes: blobBytes }, [peerId], async bytes => {
      for await (const piece of bytes) hash.update(piece)
    })
  }

  await mesh.measureLinks([peerId])
  // Code gets warm, windows grow.
  await fetchAll()
  const idleMs = await echoesUntil(count => count === IDLE_ECHOES)
  const startMs = performance.now()
  const before = processorTimes()
  let copied = false
  const copying = fetchAll().finally(() => {
    copied = true
  })
  const busyMs = await echoesUntil(() => copied)
  await copying
  const mbps = (8 * blobBytes) / 1000 / (performance.now() - startMs)
  const after = processorTimes()
  const machineBusy = 1 - (after.idle - before.idle) / (after.all - before.all)
  process.stdout.write(JSON.stringify({ idleMs, busyMs, mbps, machineBusy } satisfies BulkResult))
  await meshes.stop()
}
