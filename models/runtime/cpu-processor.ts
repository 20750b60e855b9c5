import type { Graph } from '../onnx/model.ts'
import { OnnxSession, type Tensor, type Threading } from '../onnx/session.ts'
import { type Constant, mainTensor, type Processor, type SlotDims, type SlotMemory } from './processor.ts'

/** The processors of this device, which compute in main memory. */
export class CpuProcessor implements Processor {
  readonly joinsSlots: boolean = true
  readonly mostTokens: number = Infinity
  readonly groupsHeads = true
  readonly #threading: Threading

  constructor(threading: Threading) {
    this.#threading = threading
  }

  refusal(): undefined {
    return undefined
  }

  load(graph: Graph, weightsDir: string): Promise<OnnxSession> {
    return OnnxSession.create(graph, { weightsDir, threading: this.#threading })
  }

  async allocate(slots: number, dims: SlotDims): Promise<MainMemory> {
    return new MainMemory(slots, dims)
  }

  async constant(data: Float32Array, dims: readonly number[]): Promise<Constant> {
    // What the caller keeps as well is nobody's to give back.
    return { tensor: mainTensor(data, dims), free: () => undefined }
  }
}

/** A slot lies contiguous, so that one slot, or neighbouring ones, are views. */
export class MainMemory implements SlotMemory {
  readonly #slots: number
  readonly #dims: SlotDims
  readonly #data: Float32Array<ArrayBuffer>

  constructor(slots: number, dims: SlotDims) {
    this.#slots = slots
    this.#dims = dims
    this.#data = new Float32Array(slots * dims.reduce((product, n) => product * n, 1))
  }

  tensor(start: number, end: number): Tensor {
    const slotSize = this.#data.length / this.#slots
    return mainTensor(this.#data.subarray(start * slotSize, end * slotSize), [end - start, ...this.#dims])
  }

  async copy(from: number, to: number, rows: number): Promise<void> {
    const { parts, ofPart, width } = this.#sizes
    for (let part = 0; part < parts; part++) {
      const start = (from * parts + part) * ofPart * width
      this.#data.copyWithin((to * parts + part) * ofPart * width, start, start + rows * width)
    }
  }

  async save(slot: number, rows: number): Promise<Float32Array<SharedArrayBuffer>> {
    const { parts, ofPart, width } = this.#sizes
    const size = rows * width
    const saved = new Float32Array(new SharedArrayBuffer(parts * size * Float32Array.BYTES_PER_ELEMENT))
    for (let part = 0; part < parts; part++) {
      const start = (slot * parts + part) * ofPart * width
      saved.set(this.#data.subarray(start, start + size), part * size)
    }
    return saved
  }

  async restore(slot: number, saved: Float32Array, rows: number): Promise<void> {
    const { parts, ofPart, width } = this.#sizes
    const size = saved.length / parts
    for (let part = 0; part < parts; part++) {
      const from = saved.subarray(part * size, part * size + rows * width)
      this.#data.set(from, (slot * parts + part) * ofPart * width)
    }
  }

  async toFront(slot: number, from: number, rows: number): Promise<void> {
    const { parts, ofPart, width } = this.#sizes
    for (let part = 0; part < parts; part++) {
      const start = (slot * parts + part) * ofPart * width
      this.#data.copyWithin(start, start + from * width, start + Math.min(ofPart, from + rows) * width)
    }
  }

  async fill(values: Float32Array): Promise<void> {
    for (let at = 0; at < this.#data.length; at += values.length) {
      this.#data.set(values.subarray(0, this.#data.length - at), at)
    }
  }

  /** The thread may hold others' layers for hours, or nothing. */
  free(): void {
    this.#data.buffer.transfer(0)
  }
  get #sizes(): { parts: number; ofPart: number; width: number } {
    const [ofPart = 1, width = 1] = this.#dims.slice(-2)
    return { parts: this.#data.length / (this.#slots * ofPart * width), ofPart, width }
  }
}
