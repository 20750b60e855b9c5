import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blockOf, sizesOf } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import { logger } from '../log.ts'
import type { Block, LayerFile, ModelShape } from '../manifest.ts'
import { attends } from '../recurrence.ts'
import { Batch } from './batch.ts'
import { CpuProcessor } from './cpu-processor.ts'
import { decoderLayers } from './decoder-layers.ts'
import { InferenceError } from './errors.ts'
import { allocateHidden } from './hidden.ts'
import { kvBytesPerToken } from './memory.ts'
import type { Processor } from './processor.ts'
import { randomManifest } from './random-weights.ts'
import { ShardExecutor } from './shard-executor.ts'

const log = logger('edgeshard:runtime')

/** Tokens before those that are compared: behind what any kernel takes at once, and far into what a conversation has. */
const CONTEXTS = [40, 300, 1000, 2000, 4000]
/** Compared behind each context: a run of a prompt, and a token of an answer behind it. */
const STEPS = [16, 1]
/** KV caches of the check are no larger than that. */
const MOST_BYTES = 64 * 1024 * 1024
/** What has taken so long is not tried with a longer context: an adapter that is so slow computes no such answers. */
const ENOUGH_MS = 5000
/** By how much of its length a row may differ: float32 that is added up in another order differs by a thousandth of that. */
const MOST_DIFFERENCE = 1e-3
/** Sizes of all that is no attention: nothing else looks at other tokens. */
const SMALL = 64
/** Numbers that caches are filled with again and again: a prime, so that no two tokens have the same. */
const PATTERN = 65_537

/** Names what long contexts of a range are computed with: those of two ranges with one name need one check. */
export function contextsKey(shape: ModelShape, range: LayerRange): string {
  return JSON.stringify([shape.contextLength, shape.rope, blocksOf(shape, range)])
}

/**
 * Attention over contexts of up to some thousand tokens, compared with what this device's CPU makes of the same: of each kind of
 * attention in a range one float32 layer, whose weights, keys and values are made up.
 *
 * @throws {InferenceError} where a kernel comes to something else
 */
export async function checkLongContexts(
  shape: ModelShape,
  range: LayerRange,
  processor: Processor
): Promise<void> {
  for (const { block, sizes } of blocksOf(shape, range)) {
    // The layer's number is what whoever loads it hears of it.
    if (processor.refusal(block) !== undefined) continue
    const feedForward = { kind: 'gated', activation: 'silu' } as const
    const small: ModelShape = {
      ...shape,
      ...sizes,
      ...{ hiddenSize: SMALL, ffnSize: SMALL, vocabSize: SMALL, decoderLayers: 1 },
      blocks: [{ ...block, feedForward }],
      layout: [0]
    }
    await checkLayer(small, processor)
  }
}

/** What attends in a range, each kind of it once. */
function blocksOf(shape: ModelShape, range: LayerRange) {
  const layers = decoderLayers(shape, range).filter(layer => attends(shape, layer))
  const blocks = [...new Set(layers.map(layer => blockOf(shape, layer)))]
  return blocks.map((block: Block) => {
    const { heads, kvHeads, headSize } = sizesOf(shape, block)
    return { block, sizes: { heads, kvHeads, headSize } }
  })
}

async function checkLayer(shape: ModelShape, processor: Processor): Promise<void> {
  const contexts = contextsFor(shape)
  if (contexts.length === 0) return
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-contexts-'))
  try {
    const manifest = randomManifest(shape, undefined)
    await writeMadeUp(manifest.layers[1]!, blobsDir)
    const spec = { manifest, range: [1, 2] as LayerRange, blobsDir }
    const here = await Contexts.open(spec, new CpuProcessor({ threads: 1, spinUs: 0 }), contexts).catch(
      log.passOver('long contexts of such layers cannot be checked; they are computed unchecked')
    )
    if (here === undefined) return
    try {
      await compare(here, await Contexts.open(spec, processor, contexts), contexts)
    } finally {
      await here.release()
    }
  } finally {
    await rm(blobsDir, { recursive: true, force: true })
  }
}

async function compare(here: Contexts, there: Contexts, contexts: readonly number[]): Promise<void> {
  // The first one compiles kernels, which says nothing of how fast they are.
  let startMs: number | undefined
  try {
    for (const context of contexts) {
      const [expected, found] = [await here.rows(context), await there.rows(context)]
      const difference = Math.max(...expected.map((row, i) => differenceOf(row, found[i]!)))
      if (!(difference <= MOST_DIFFERENCE)) {
        const percent = Number.isFinite(difference) ? `by ${(100 * difference).toFixed(1)} %` : 'in no number'
        throw new InferenceError(
          `behind ${context} tokens layers differ ${percent} from those of the CPU: they are not computed rightly here`
        )
      }
      startMs ??= performance.now()
      if (performance.now() - startMs > ENOUGH_MS) return
    }
  } finally {
    await there.release()
  }
}

/** Those that the model has, and that a cache for has room, in ascending order. */
function contextsFor(shape: ModelShape): number[] {
  const behind = STEPS.reduce((sum, tokens) => sum + tokens, 0)
  const bytes = kvBytesPerToken(shape, 1)
  const most = Math.min(shape.contextLength, Math.floor(MOST_BYTES / Math.max(1, bytes))) - behind
  return CONTEXTS.filter(context => context <= most)
}

/** One layer on one processor, behind made-up keys and values. */
class Contexts {
  readonly #shard: ShardExecutor
  readonly #batch: Batch

  private constructor(shard: ShardExecutor, batch: Batch) {
    this.#shard = shard
    this.#batch = batch
  }

  static async open(
    spec: Parameters<typeof ShardExecutor.load>[0],
    processor: Processor,
    contexts: readonly number[]
  ): Promise<Contexts> {
    const shard = await ShardExecutor.load(spec, processor)
    try {
      const maxTokens = contexts.at(-1)! + STEPS.reduce((sum, tokens) => sum + tokens, 0)
      const batch = await Batch.allocate(shard, { slots: 1, maxTokens })
      await batch.fill(madeUp(PATTERN))
      return new Contexts(shard, batch)
    } catch (error) {
      await shard.release()
      throw error
    }
  }

  /** What the tokens behind a context come to, a row each. */
  async rows(context: number): Promise<Float32Array[]> {
    const sequence = await this.#batch.open({})
    sequence.pretend(context)
    const rows: Float32Array[] = []
    let position = context
    for (const tokens of STEPS) {
      const input = allocateHidden(tokens, SMALL)
      input.data.set(madeUp(input.data.length))
      const output = await this.#batch.step([sequence], { parts: [{ position, tokens, draws: 0 }], input })
      if (output.kind !== 'hidden') throw new InferenceError('a decoder layer has given no hidden states')
      const { data } = output.hidden
      for (let row = 0; row < tokens; row++) rows.push(data.slice(row * SMALL, (row + 1) * SMALL))
      position += tokens
    }
    sequence.closed = true
    return rows
  }

  async release(): Promise<void> {
    this.#batch.free()
    await this.#shard.release()
  }
}

/** Weights that make attention count: scores differ from token to token, and what comes out is as large as what goes in. */
async function writeMadeUp({ sha256, bytes, tensors }: LayerFile, blobsDir: string): Promise<void> {
  const data = madeUp(bytes / Float32Array.BYTES_PER_ELEMENT)
  for (const { name, offset, bytes: length } of tensors) {
    const own = new Float32Array(data.buffer, offset, length / Float32Array.BYTES_PER_ELEMENT)
    if (/norm|scale/.test(name)) own.fill(1)
    else own.forEach((x, i) => void (own[i] = x / 2))
  }
  await writeFile(join(blobsDir, sha256), data)
}

/** Numbers in [-1, 1) that are the same everywhere, and in the mean rise and fall: what is left out of a mean shows. */
function madeUp(count: number): Float32Array<ArrayBuffer> {
  let state = 12345
  return Float32Array.from({ length: count }, (_, i) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1 + Math.sin((20 * i) / PATTERN)) / 2
  })
}

/** The length of the difference by that of the first. No number where one of them is none. */
function differenceOf(one: Float32Array, other: Float32Array): number {
  let squares = 0
  let differences = 0
  one.forEach((x, i) => {
    squares += x ** 2
    differences += (x - other[i]!) ** 2
  })
  return differences === 0 ? 0 : Math.sqrt(differences / squares)
}
