import type { Block } from '../manifest.ts'
import { GraphBuilder, int64 } from '../onnx/builder.ts'
import type { Graph } from '../onnx/model.ts'
import { type OnnxOptions, OnnxSession, type Tensor } from '../onnx/session.ts'
import { GpuUnavailableError } from './errors.ts'
import { type Constant, mainTensor, type Processor, type SlotDims, type SlotMemory } from './processor.ts'

/** Nearly all is done by the GPU; what is left for this side is a thread's. */
const ON_GPU = { threading: { threads: 1, spinUs: 0 }, provider: 'webgpu' } as const
const VALUE = 'value'
const SHAPE = 'shape'
const START = 'start'
const FROM = 'from'
const TO = 'to'

/**
 * The GPU of this device, by ONNX Runtime's WebGPU provider. Only one thread of a process may use it, and a driver that
 * crashes takes the process along, so this belongs in one of its own.
 */
export class GpuProcessor implements Processor {
  readonly joinsSlots = false
  /**
   * ONNX Runtime 1.30 computes attention over all tokens wrongly on SwiftShader from 32 tokens of a sequence on, by 5 to 30 %,
   * and rightly up to 31.
   */
  readonly mostTokens = 16
  /** A cache has to be one tensor of the GPU as past and present, in a branch, too. */
  readonly groupsHeads = false
  /** Make a tensor there, by its number of dimensions: the binding can allocate none by itself. */
  readonly #filled = new Map<number, OnnxSession>()
  /** Make a tensor there of one in main memory, by its number of dimensions. */
  readonly #uploaded = new Map<number, OnnxSession>()
  /** Copy a tensor, from anywhere, into one that is there, by its number of dimensions. */
  readonly #copied = new Map<number, OnnxSession>()
  /** Makes a tensor there of another one's rows, which begin with another row. */
  readonly #turned: OnnxSession

  private constructor(turned: OnnxSession) {
    this.#turned = turned
  }

  /** @throws {GpuUnavailableError} where there is no adapter, or none that can be used */
  static async start(): Promise<GpuProcessor> {
    try {
      return new GpuProcessor(await OnnxSession.create(turnGraph(), { ...ON_GPU, resident: [TO] }))
    } catch (error) {
      throw new GpuUnavailableError(
        `no GPU can be used here: ${error instanceof Error ? error.message : String(error)}`
      )
    }
  }

  /** ONNX Runtime 1.30 leaves the cap of scores out there, and says nothing. */
  refusal({ attention, joins }: Block): string | undefined {
    if (joins !== undefined) return 'a layer that guesses is not computed on a GPU'
    return attention.softcap === undefined
      ? undefined
      : 'scores that are kept within a cap are not computed on a GPU'
  }

  load(graph: Graph, weightsDir: string): Promise<OnnxSession> {
    return OnnxSession.create(graph, { ...ON_GPU, weightsDir })
  }

  async allocate(slots: number, dims: SlotDims): Promise<SlotMemory> {
    const copied = await ofRank(this.#copied, 1 + dims.length, copyGraph, ON_GPU)
    const memory = new GpuMemory({ copied, turned: this.#turned }, dims)
    try {
      for (let slot = 0; slot < slots; slot++) memory.add(await this.#zeros([1, ...dims]))
      return memory
    } catch (error) {
      memory.free()
      throw error
    }
  }

  async constant(data: Float32Array, dims: readonly number[]): Promise<Constant> {
    const upload = await ofRank(this.#uploaded, dims.length, copyGraph, { ...ON_GPU, resident: [TO] })
    const { [TO]: tensor } = await upload.make({ [FROM]: mainTensor(data, dims) })
    return { tensor: tensor!, free: () => tensor!.dispose() }
  }

  async #zeros(dims: readonly number[]): Promise<Tensor> {
    const shape = BigInt64Array.from(dims, BigInt)
    const feeds = { [VALUE]: mainTensor(Float32Array.of(0), [1]), [SHAPE]: mainTensor(shape, [dims.length]) }
    const filled = await ofRank(this.#filled, dims.length, fillGraph, { ...ON_GPU, resident: [TO] })
    return (await filled.make(feeds))[TO]!
  }
}

/** A session of a graph for tensors of so many dimensions, made when it is first asked for. */
async function ofRank(
  made: Map<number, OnnxSession>,
  rank: number,
  graph: (rank: number) => Graph,
  options: OnnxOptions
): Promise<OnnxSession> {
  const session = made.get(rank) ?? (await OnnxSession.create(graph(rank), options))
  made.set(rank, session)
  return session
}

/** A tensor a slot, (1, ...parts, rows, width): a part of a GPU's tensor is none. */
class GpuMemory implements SlotMemory {
  readonly #copied: OnnxSession
  readonly #turned: OnnxSession
  readonly #dims: SlotDims
  readonly #slots: Tensor[] = []

  constructor({ copied, turned }: { copied: OnnxSession; turned: OnnxSession }, dims: SlotDims) {
    this.#copied = copied
    this.#turned = turned
    this.#dims = dims
  }

  add(slot: Tensor): void {
    this.#slots.push(slot)
  }

  tensor(start: number, end: number): Tensor {
    if (end !== start + 1) throw new RangeError(`slots [${start}, ${end}) are no tensor of a GPU`)
    return this.#slots[start]!
  }

  /** All rows: the run that copies is one of few that take no time worth telling. */
  async copy(from: number, to: number): Promise<void> {
    if (from !== to) await this.#copied.run({ [FROM]: this.#slots[from]! }, { [TO]: this.#slots[to]! })
  }

  /** Nothing leaves the GPU's memory. */
  async save(): Promise<undefined> {
    return undefined
  }

  async restore(): Promise<void> {
    throw new RangeError('nothing was saved of a GPU')
  }

  /** All rows, those before `from` behind the others. */
  async toFront(slot: number, from: number): Promise<void> {
    const rows = this.#dims.at(-2)!
    if (from === 0 || from >= rows) return
    const feeds = { [FROM]: this.#slots[slot]!, [START]: mainTensor(BigInt64Array.of(BigInt(from)), [1]) }
    const { [TO]: turned } = await this.#turned.make(feeds)
    try {
      await this.#copied.run({ [FROM]: turned! }, { [TO]: this.#slots[slot]! })
    } finally {
      turned!.dispose()
    }
  }

  async fill(values: Float32Array): Promise<void> {
    const size = this.#dims.reduce((product, n) => product * n, 1)
    const data = new Float32Array(size)
    // The values go on from one slot to the next, as in memory that is in one piece.
    let at = 0
    for (const slot of this.#slots) {
      for (let i = 0; i < size; i++) data[i] = values[at++ % values.length]!
      await this.#copied.run({ [FROM]: mainTensor(data, [1, ...this.#dims]) }, { [TO]: slot })
    }
  }

  free(): void {
    for (const slot of this.#slots) slot.dispose()
    this.#slots.length = 0
  }
}

function fillGraph(rank: number): Graph {
  const graph = new GraphBuilder()
  graph.input(VALUE, 'float32', [1])
  graph.input(SHAPE, 'int64', [rank])
  graph.output(TO, 'float32', dimsOf(rank))
  graph.onnx('Expand', [VALUE, SHAPE], {}, TO)
  return graph.build('fill')
}

function turnGraph(): Graph {
  const graph = new GraphBuilder()
  const dims = ['slots', 'parts', 'rows', 'width']
  graph.input(FROM, 'float32', dims)
  graph.input(START, 'int64', [1])
  graph.output(TO, 'float32', dims)
  const axis = int64(graph, [2n])
  const behind = graph.onnx('Slice', [FROM, START, int64(graph, [BigInt(Number.MAX_SAFE_INTEGER)]), axis])
  const before = graph.onnx('Slice', [FROM, int64(graph, [0n]), START, axis])
  graph.onnx('Concat', [behind, before], { axis: 2 }, TO)
  return graph.build('turn')
}

function copyGraph(rank: number): Graph {
  const graph = new GraphBuilder()
  const dims = dimsOf(rank)
  graph.input(FROM, 'float32', dims)
  graph.output(TO, 'float32', dims)
  graph.onnx('Identity', [FROM], {}, TO)
  return graph.build('copy')
}

function dimsOf(rank: number): string[] {
  return Array.from({ length: rank }, (_, i) => `size_${i}`)
}
