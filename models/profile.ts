import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { allocateHidden, PREFILL_CHUNK_TOKENS } from './hidden.ts'
import type { LayerKind, LayerRange } from './layers.ts'
import type { ModelShape, Quantization } from './manifest.ts'
import { weightBytes } from './memory.ts'
import { randomManifest, writeRandomLayer } from './random-weights.ts'
import type { ForwardInput, LayerTimes } from './runtime.ts'
import { Sequence } from './sequence.ts'
import { ShardExecutor } from './shard-executor.ts'

/** What layers to time: the shape decides, the weights are random. */
export interface ProfileSpec {
  shape: ModelShape
  /** Absent: float32. */
  quantization?: Quantization
}

/** Small layers are timed several in a row, as a stage runs them: the cost of a call is not a layer's. */
const TIMED_BYTES = 16 * 1024 * 1024
const TIMED_LAYERS = 8
/** Read between two runs of a layer of a larger model, which in use would not find its weights in the cache either. */
const FLUSH_BYTES = 64 * 1024 * 1024
/** Runs end after so many, or after so long once there are a few. */
const MAX_RUNS = 20
const MIN_RUNS = 3
const RUNS_BUDGET_MS = 50

/** Times one layer of each kind, one at a time, in this thread. */
export async function profileLayers(
  spec: ProfileSpec,
  threads: number
): Promise<Record<LayerKind, LayerTimes>> {
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-profile-'))
  try {
    const embedding = await time('embedding', spec, blobsDir, threads)
    const decoder = await time('decoder', spec, blobsDir, threads)
    const head = await time('head', spec, blobsDir, threads)
    // The head computes the last token of a prompt only, however long: a chunk's tokens share its one run.
    head.prefillMsPerToken = head.decodeMs / PREFILL_CHUNK_TOKENS
    return { embedding, decoder, head }
  } finally {
    await rm(blobsDir, { recursive: true, force: true })
  }
}

/** Times a decode step and a prefill chunk through one layer, or through a few where they are small. */
async function time(
  kind: LayerKind,
  { shape, quantization }: ProfileSpec,
  blobsDir: string,
  threads: number
): Promise<LayerTimes> {
  const whole = randomManifest(shape, quantization)
  const model = weightBytes(whole, [0, whole.layers.length])
  const copies =
    kind === 'decoder'
      ? Math.max(
          1,
          Math.min(TIMED_LAYERS, shape.decoderLayers, Math.floor(TIMED_BYTES / whole.layers[1]!.bytes))
        )
      : 1
  const flush = new Float64Array(kind !== 'embedding' && model > FLUSH_BYTES ? FLUSH_BYTES / 8 : 0)
  const manifest = randomManifest({ ...shape, decoderLayers: copies }, quantization)
  await writeRandomLayer(manifest, kind, blobsDir)
  const range: LayerRange =
    kind === 'embedding' ? [0, 1] : kind === 'decoder' ? [1, 1 + copies] : [1 + copies, 2 + copies]
  const shard = await ShardExecutor.load({ manifest, range, blobsDir }, threads)
  try {
    const chunk = Math.min(PREFILL_CHUNK_TOKENS, shape.contextLength - 1)
    const sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
    const sequence = new Sequence(shard, { maxTokens: chunk + 1, sampling })
    const steps = async (position: number, tokens: number) => {
      const step = { position, input: inputOf(kind, shape, tokens), sample: true }
      return await median(async () => {
        sequence.trim(position)
        flush.reduce((sum, x) => sum + x, 0)
        return (await sequence.forward(step)).computeMs
      })
    }
    const prefillMs = await steps(0, chunk)
    const decodeMs = await steps(chunk, 1)
    return { decodeMs: decodeMs / copies, prefillMsPerToken: prefillMs / copies / chunk }
  } finally {
    await shard.release()
    await rm(join(blobsDir, kind), { force: true })
  }
}

/** Tokens, or hidden states of ordinary size. */
function inputOf(
  kind: LayerKind,
  { hiddenSize, vocabSize }: ModelShape,
  tokens: number
): ForwardInput['input'] {
  if (kind === 'embedding') return Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabSize)
  const hidden = allocateHidden(tokens, hiddenSize)
  hidden.data.forEach((_, i) => {
    hidden.data[i] = Math.sin(i)
  })
  return hidden
}

async function median(run: () => Promise<number>): Promise<number> {
  await run()
  const times: number[] = []
  const start = performance.now()
  while (times.length < MIN_RUNS || (times.length < MAX_RUNS && performance.now() - start < RUNS_BUDGET_MS)) {
    times.push(await run())
  }
  times.sort((a, b) => a - b)
  return times[times.length >> 1]!
}
