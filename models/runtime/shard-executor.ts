import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { blockOf } from '../blocks.ts'
import { BlobError, ManifestError } from '../errors.ts'
import { layersOf } from '../layers.ts'
import type { Manifest } from '../manifest.ts'
import { usedTurnings } from '../onnx/attention.ts'
import { MAX_LANES } from '../onnx/lanes.ts'
import type { Tensor } from '../onnx/session.ts'
import { shardGraph } from '../onnx/shard-graph.ts'
import { attends } from '../recurrence.ts'
import { checkTensors } from '../tensors.ts'
import { decoderLayers } from './decoder-layers.ts'
import { InferenceError, RuntimeInputError } from './errors.ts'
import { GroupedRows, groupsHeads } from './grouped-rows.ts'
import { KvCache } from './kv-cache.ts'
import { unusedLanes } from './lane-run.ts'
import type { Constant, Processor } from './processor.ts'
import { rotaryTable } from './rotary.ts'
import type { ShardSpec } from './runtime.ts'
import { keepsBits } from './self-check.ts'
import { SessionChain } from './session-chain.ts'
import { sessionRanges } from './session-ranges.ts'

/** A layer range loaded in this thread: its ONNX sessions and what all its sequences share. */
export class ShardExecutor {
  readonly manifest: Manifest
  readonly range: ShardSpec['range']
  /** Sequences with any number of rows that a run computes together. */
  readonly lanes: number
  /** What a run of one lane is given for the others, made once. */
  readonly unusedLanes: Readonly<Record<string, Tensor>>
  /** When query heads are computed as rows; undefined where they never are. */
  readonly grouped: GroupedRows | undefined
  readonly #processor: Processor
  readonly #session: SessionChain
  /** What runs are given in every step, of the shard's own. */
  readonly #constants: Constant[]
  #keepsBits: Promise<boolean> | undefined
  /** By the number of the turning. */
  readonly #rotary = new Map<number, { cos: Tensor; sin: Tensor; positions: number }>()

  private constructor({ manifest, range }: ShardSpec, { processor, session, lanes, unused }: LoadedParts) {
    this.manifest = manifest
    this.range = range
    this.lanes = lanes
    this.unusedLanes = unused.feeds
    this.#constants = unused.constants
    const { shape } = manifest
    this.grouped = groupsHeads(processor, shape)
      ? GroupedRows.of(shape, decoderLayers(shape, range))
      : undefined
    this.#processor = processor
    this.#session = session
  }

  /**
   * @throws {RuntimeInputError} for an impossible range, {ManifestError} or {BlobError} naming layer and file when the
   * weights are not what the manifest says, {InferenceError} when ONNX Runtime refuses them, or the processor does a layer.
   */
  static async load(spec: ShardSpec, processor: Processor): Promise<ShardExecutor> {
    checkRange(spec)
    await checkFiles(spec)
    const { manifest, range, blobsDir, lanes = 1 } = spec
    const { shape } = manifest
    for (const layer of decoderLayers(shape, range)) {
      const refusal = processor.refusal(blockOf(shape, layer))
      if (refusal !== undefined) throw new InferenceError(`layer ${layer}: ${refusal}`)
    }
    const graphs = sessionRanges(shape, range).map(part =>
      shardGraph(manifest, part, { lanes, groupsHeads: groupsHeads(processor, shape) })
    )
    const decoding = decoderLayers(shape, range)
    const some = decoding.length > 0
    const unused = await unusedLanes(processor, shape, decoding, some ? lanes : 1)
    try {
      const session = await SessionChain.create(processor, graphs, shape.hiddenSize, blobsDir)
      return new ShardExecutor(spec, { processor, session, lanes: some ? lanes : MAX_LANES, unused })
    } catch (error) {
      for (const constant of unused.constants) constant.free()
      throw error
    }
  }

  /** Whether the shard's last layer is the head, which samples. */
  get endsWithHead(): boolean {
    return this.range[1] === this.manifest.layers.length
  }

  /** Whether a run may have neighbouring slots of a cache as one. */
  get joinsSlots(): boolean {
    return this.#processor.joinsSlots
  }

  /** Tokens of one sequence that a run may have. */
  get mostTokens(): number {
    return this.#processor.mostTokens
  }

  /** Whether the kernels here compute exact sequences to the bit: tried once, when it is first asked for. */
  keepsBits(): Promise<boolean> {
    this.#keepsBits ??= keepsBits(this).catch(error => {
      // For want of memory, say: it is tried again.
      this.#keepsBits = undefined
      throw error
    })
    return this.#keepsBits
  }

  run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor | null>): Promise<void> {
    return this.#session.run(feeds, fetches)
  }

  /**
   * A KV cache, and states, of `slots` sequences of up to `maxTokens` tokens, and rotary tables for as many positions.
   *
   * @param frameTokens that a step has at most; undefined: layers with a window keep all tokens
   */
  async allocate(maxTokens: number, slots = 1, frameTokens?: number): Promise<KvCache> {
    const { shape } = this.manifest
    const layers = decoderLayers(shape, this.range).filter(layer => attends(shape, layer))
    if (layers.length > 0) {
      for (const { number, turning } of usedTurnings(shape, layers)) {
        if ((this.#rotary.get(number)?.positions ?? 0) >= maxTokens) continue
        const table = rotaryTable(turning, maxTokens)
        const dims = [maxTokens, turning.rotated / 2]
        const [cos, sin] = [
          await this.#processor.constant(table.cos, dims),
          await this.#processor.constant(table.sin, dims)
        ]
        // Sequences that are open use smaller ones on.
        this.#constants.push(cos, sin)
        this.#rotary.set(number, { cos: cos.tensor, sin: sin.tensor, positions: maxTokens })
      }
    }
    return await KvCache.allocate(this.#processor, shape, this.range, maxTokens, slots, frameTokens)
  }

  /** A turning's rotary tables, of at least as many rows as any cache that was allocated has tokens. */
  rotary(number: number): { cos: Tensor; sin: Tensor } {
    return this.#rotary.get(number)!
  }

  async release(): Promise<void> {
    for (const constant of this.#constants) constant.free()
    await this.#session.release()
  }
}

/** What a loaded range is made of. */
interface LoadedParts {
  processor: Processor
  session: SessionChain
  lanes: number
  unused: { feeds: Record<string, Tensor>; constants: Constant[] }
}

function checkRange({ manifest, range: [start, end], lanes = 1 }: ShardSpec): void {
  const layers = manifest.layers.length
  if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end > layers || start >= end) {
    throw new RuntimeInputError(`layers [${start}, ${end}) are not a range in [0, ${layers})`)
  }
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > MAX_LANES) {
    throw new RuntimeInputError(`${lanes} lanes are not in 1..${MAX_LANES}`)
  }
}

async function checkFiles({ manifest, range, blobsDir }: ShardSpec): Promise<void> {
  for (const layer of layersOf(range)) {
    const file = manifest.layers[layer]!
    try {
      checkTensors(file, manifest.shape, layer)
    } catch (error) {
      throw new ManifestError(`layer ${layer}: ${error instanceof Error ? error.message : String(error)}`)
    }
    const where = `weight file ${file.sha256} of layer ${layer}`
    const path = join(blobsDir, file.sha256)
    const found = await stat(path).catch(() => undefined)
    if (found === undefined) {
      throw new BlobError(
        file.sha256,
        'missing',
        `${where} is missing in ${blobsDir}; fetch or import it again`
      )
    }
    if (found.size !== file.bytes) {
      const sizes = `has ${found.size} bytes instead of ${file.bytes}`
      throw new BlobError(file.sha256, 'size', `${where} ${sizes}; fetch or import it again`)
    }
  }
}
