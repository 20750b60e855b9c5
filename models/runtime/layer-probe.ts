import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LayerKind } from '../layers.ts'
import type { ModelShape, Quantization } from '../manifest.ts'
import { MAX_LANES } from '../onnx/lanes.ts'
import { hasState } from '../recurrence.ts'
import { Batch } from './batch.ts'
import { cpuQuota, sustainedMs } from './cpu-quota.ts'
import { RuntimeStoppedError } from './errors.ts'
import { allocateHidden, PREFILL_CHUNK_TOKENS, prefillChunks } from './hidden.ts'
import { weightBytes } from './memory.ts'
import type { Processor } from './processor.ts'
import { randomManifest, writeRandomLayer } from './random-weights.ts'
import type { ForwardInput } from './runtime.ts'
import { Sequence } from './sequence.ts'
import { ShardExecutor } from './shard-executor.ts'

/** What layers to time: the shape decides, the weights are random. */
export interface ProfileSpec {
  shape: ModelShape
  /** Absent: float32. */
  quantization?: Quantization
  /** Steps of more numbers of sequences are timed, which takes twice as long. @default false */
  thorough?: boolean
}

/**
 * Layers are timed several in a row where they are not large, as a stage runs them: the cost of a call, and of a cold start, is
 * not a layer's. Two in a row of 7 MB took 1.2 times the time of 8.
 */
const TIMED_BYTES = 64 * 1024 * 1024
const TIMED_LAYERS = 8
/** Read between two runs of layers that are far smaller than their model, which in use would not find its weights in the cache either. */
const FLUSH_BYTES = 64 * 1024 * 1024
/** Runs end after so many, or after so long once there are a few, or after longer however few there are. */
const MAX_RUNS = 20
const MIN_RUNS = 3
const RUNS_BUDGET_MS = 40
const FEW_RUNS_BUDGET_MS = 150
/** A long context takes long by itself: its runs have this share of the time. */
const LONG_CONTEXT_TOKENS = 256
const LONG_CONTEXT_SHARE = 0.3
/** How requests draw that do not say how: a head's time is its logits and the draw. */
const USUAL = { temperature: 0.7, topP: 0.95, seed: 0, topLogprobs: 0 }

/** One layer of a kind, loaded with random weights to be timed in this thread. Times are of a single layer. */
export class LayerProbe {
  readonly #kind: LayerKind
  readonly #shape: ModelShape
  readonly #shard: ShardExecutor
  /** Layers one behind the other, each with a KV cache. */
  readonly copies: number
  /** What loading one of them took. */
  readonly loadMs: number
  readonly #flush: Float64Array
  readonly #unwanted: Int32Array<SharedArrayBuffer>

  private constructor(
    kind: LayerKind,
    shape: ModelShape,
    shard: ShardExecutor,
    { copies, loadMs }: { copies: number; loadMs: number },
    flush: Float64Array,
    unwanted: Int32Array<SharedArrayBuffer>
  ) {
    this.#kind = kind
    this.#shape = shape
    this.#shard = shard
    this.copies = copies
    this.loadMs = loadMs
    this.#flush = flush
    this.#unwanted = unwanted
  }

  /**
   * Writes the layer's file into `blobsDir`, which need not outlive this call, and loads it. Timing ends with an error
   * when another thread has set `unwanted`.
   */
  static async load(
    kind: LayerKind,
    { shape, quantization }: ProfileSpec,
    blobsDir: string,
    { processor, unwanted }: { processor: Processor; unwanted: Int32Array<SharedArrayBuffer> }
  ): Promise<LayerProbe> {
    checkWanted(unwanted)
    const whole = randomManifest(shape, quantization)
    const fitting = Math.floor(TIMED_BYTES / whole.layers[1]!.bytes)
    const copies = kind === 'decoder' ? Math.max(1, Math.min(TIMED_LAYERS, shape.decoderLayers, fitting)) : 1
    const model = weightBytes(whole, [0, whole.layers.length])
    const timed =
      copies * whole.layers[kind === 'embedding' ? 0 : kind === 'head' ? whole.layers.length - 1 : 1]!.bytes
    // An embedding is a row, which no cache decides about.
    const stays = kind !== 'embedding' && model > FLUSH_BYTES && timed < FLUSH_BYTES / 2
    const flush = new Float64Array(stays ? FLUSH_BYTES / 8 : 0)
    const manifest = randomManifest({ ...shape, decoderLayers: copies }, quantization)
    const ranges = { embedding: [0, 1], decoder: [1, 1 + copies], head: [1 + copies, 2 + copies] } as const
    const range = ranges[kind]
    const files = manifest.layers.slice(...range)
    // Sequences with states share a step by lanes only.
    const lanes = hasState(shape) ? MAX_LANES : 1
    for (const file of files) await writeRandomLayer(file, blobsDir)
    checkWanted(unwanted)
    const beganMs = performance.now()
    const shard = await ShardExecutor.load({ manifest, range, blobsDir, lanes }, processor)
    const loadMs = (performance.now() - beganMs) / copies
    for (const { sha256 } of files) await rm(join(blobsDir, sha256))
    return new LayerProbe(kind, shape, shard, { copies, loadMs }, flush, unwanted)
  }

  /** A step of one token of one sequence that has `context` tokens before it. */
  async decode(context: number): Promise<number> {
    // As in use there is room behind it: a step at the end of it takes the slower of two ways (grouped-rows.ts).
    const maxTokens = Math.min(this.#shape.contextLength, context + PREFILL_CHUNK_TOKENS)
    const sequence = await Sequence.open(this.#shard, { maxTokens, sampling: USUAL }, 1)
    sequence.pretend(context)
    const step = { position: context, input: this.#input(1), sample: true }
    return await this.#typical(async () => {
      sequence.pretend(context)
      return (await sequence.forward(step)).computeMs
    }, context)
  }

  /** A step of one token of each of `size` sequences that have `context` tokens before it. */
  async decodeBatch(size: number, context: number): Promise<number> {
    const batch = await Batch.allocate(this.#shard, {
      slots: size,
      maxTokens: context + 1,
      frameTokens: 1
    })
    const sequences: Sequence[] = []
    for (let i = 0; i < size; i++) {
      const sequence = await batch.open({ sampling: USUAL })
      sequence.pretend(context)
      sequences.push(sequence)
    }
    const parts = sequences.map(() => ({ position: context, tokens: 1, draws: 1 }))
    const step = { parts, input: this.#input(size) }
    return await this.#typical(async () => {
      for (const sequence of sequences) sequence.pretend(context)
      return (await batch.step(sequences, step)).computeMs
    })
  }

  /** A prompt of `tokens` tokens, in the chunks in which prompts come. */
  async prefill(tokens: number): Promise<number> {
    const sequence = await Sequence.open(this.#shard, { maxTokens: tokens, sampling: USUAL })
    const steps = prefillChunks(tokens).map(([start, end]) => ({
      position: start,
      input: this.#input(end - start),
      sample: end === tokens
    }))
    return await this.#typical(async () => {
      sequence.pretend(0)
      let ms = 0
      for (const step of steps) ms += (await sequence.forward(step)).computeMs
      return ms
    })
  }

  /** A chunk of `tokens` tokens of a prompt, with `context` tokens before it. */
  async chunk(tokens: number, context: number): Promise<number> {
    const options = { maxTokens: context + tokens, sampling: USUAL }
    const sequence = await Sequence.open(this.#shard, options, tokens)
    sequence.pretend(context)
    const step = { position: context, input: this.#input(tokens), sample: false }
    return await this.#typical(async () => {
      sequence.pretend(context)
      return (await sequence.forward(step)).computeMs
    }, context)
  }

  release(): Promise<void> {
    return this.#shard.release()
  }

  /** Tokens, or hidden states of ordinary size. */
  #input(tokens: number): ForwardInput['input'] {
    const { hiddenSize, vocabSize } = this.#shape
    if (this.#kind === 'embedding')
      return Int32Array.from({ length: tokens }, (_, i) => (i * 7919) % vocabSize)
    const hidden = allocateHidden(tokens, hiddenSize)
    hidden.data.forEach((_, i) => {
      hidden.data[i] = Math.sin(i)
    })
    return hidden
  }

  /**
   * The mean of the faster half of a few runs after a first one, for one layer: what disturbs a run, as the start of a
   * node does, only ever makes it longer. Under a quota it is no less than what the same of the processors' time takes in the long run.
   */
  async #typical(run: () => Promise<number>, context = 0): Promise<number> {
    await run()
    const times: number[] = []
    const cpuTimes: number[] = []
    const start = performance.now()
    const share = context > LONG_CONTEXT_TOKENS ? LONG_CONTEXT_SHARE : 1
    const within = (budgetMs: number) => performance.now() - start < share * budgetMs
    while (
      times.length < MAX_RUNS &&
      (times.length === 0 || within(times.length < MIN_RUNS ? FEW_RUNS_BUDGET_MS : RUNS_BUDGET_MS))
    ) {
      checkWanted(this.#unwanted)
      this.#flush.reduce((sum, x) => sum + x, 0)
      const before = process.cpuUsage()
      times.push(await run())
      const { user, system } = process.cpuUsage(before)
      cpuTimes.push((user + system) / 1000)
    }
    return sustainedMs(fasterHalf(times), fasterHalf(cpuTimes), cpuQuota()) / this.copies
  }
}

/** The mean of the faster half of some times. */
function fasterHalf(times: readonly number[]): number {
  const fast = times.toSorted((a, b) => a - b).slice(0, Math.ceil(times.length / 2))
  return fast.reduce((sum, ms) => sum + ms, 0) / fast.length
}

function checkWanted(unwanted: Int32Array<SharedArrayBuffer>): void {
  if (Atomics.load(unwanted, 0) !== 0) throw new RuntimeStoppedError('nobody waits for the times any more')
}
