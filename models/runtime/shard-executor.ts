import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Turning } from '../blocks.ts'
import { BlobError, ManifestError } from '../errors.ts'
import { layersOf } from '../layers.ts'
import type { Manifest } from '../manifest.ts'
import { MAX_LANES } from '../onnx/lanes.ts'
import { Tensor, type Threading } from '../onnx/session.ts'
import { shardGraph } from '../onnx/shard-graph.ts'
import { checkTensors } from '../tensors.ts'
import { RuntimeInputError } from './errors.ts'
import { decoderLayers } from './kv-cache.ts'
import { unusedLanes } from './lane-run.ts'
import { type RotaryTable, rotaryTable } from './rotary.ts'
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
  readonly #session: SessionChain
  #keepsBits: Promise<boolean> | undefined
  /** By the number of the turning. */
  readonly #rotary = new Map<number, { cos: Tensor; sin: Tensor; table: RotaryTable }>()

  private constructor(spec: ShardSpec, session: SessionChain) {
    this.manifest = spec.manifest
    this.range = spec.range
    const attends = decoderLayers(spec.manifest.shape, spec.range)
    this.lanes = attends.length > 0 ? (spec.lanes ?? 1) : MAX_LANES
    this.unusedLanes = unusedLanes(spec.manifest.shape, attends, attends.length > 0 ? this.lanes : 1)
    this.#session = session
  }

  /**
   * @throws {RuntimeInputError} for an impossible range, {ManifestError} or {BlobError} naming layer and file when the
   * weights are not what the manifest says, {InferenceError} when ONNX Runtime refuses them.
   */
  static async load(spec: ShardSpec, threading: Threading): Promise<ShardExecutor> {
    checkRange(spec)
    await checkFiles(spec)
    const { manifest, range, blobsDir, lanes = 1 } = spec
    const { shape } = manifest
    const graphs = sessionRanges(shape, range).map(part => shardGraph(manifest, part, { lanes }))
    const options = { weightsDir: blobsDir, threading }
    return new ShardExecutor(spec, await SessionChain.create(graphs, shape.hiddenSize, options))
  }

  /** Whether the shard's last layer is the head, which samples. */
  get endsWithHead(): boolean {
    return this.range[1] === this.manifest.layers.length
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

  /** A turning's rotary tables of at least `positions` rows, shared by the sequences that need no more. */
  rotary(number: number, turning: Turning, positions: number): { cos: Tensor; sin: Tensor } {
    const known = this.#rotary.get(number)
    if (known !== undefined && known.table.positions >= positions) return known
    const table = rotaryTable(turning, positions)
    const dims = [positions, turning.rotated / 2]
    const [cos, sin] = [table.cos, table.sin].map(data => new Tensor('float32', data, dims))
    const made = { cos: cos!, sin: sin!, table }
    this.#rotary.set(number, made)
    return made
  }

  release(): Promise<void> {
    return this.#session.release()
  }
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
