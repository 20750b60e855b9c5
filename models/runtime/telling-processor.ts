import type { Block } from '../manifest.ts'
import type { Graph } from '../onnx/model.ts'
import type { OnnxSession } from '../onnx/session.ts'
import type { Constant, Processor, SlotDims, SlotMemory } from './processor.ts'

/** A processor that tells of all it has done but runs: what loads or times for minutes is known to be alive. */
export class TellingProcessor implements Processor {
  readonly #processor: Processor
  readonly #tell: () => void

  constructor(processor: Processor, tell: () => void) {
    this.#processor = processor
    this.#tell = tell
  }

  get joinsSlots(): boolean {
    return this.#processor.joinsSlots
  }

  get mostTokens(): number {
    return this.#processor.mostTokens
  }

  get groupsHeads(): boolean {
    return this.#processor.groupsHeads
  }

  refusal(block: Block): string | undefined {
    return this.#processor.refusal(block)
  }

  load(graph: Graph, weightsDir: string): Promise<OnnxSession> {
    return this.#told(this.#processor.load(graph, weightsDir))
  }

  allocate(slots: number, dims: SlotDims): Promise<SlotMemory> {
    return this.#told(this.#processor.allocate(slots, dims))
  }

  constant(data: Float32Array, dims: readonly number[]): Promise<Constant> {
    return this.#told(this.#processor.constant(data, dims))
  }

  #told<T>(work: Promise<T>): Promise<T> {
    return work.finally(this.#tell)
  }
}
