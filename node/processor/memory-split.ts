import type { LeaseTable } from '../stage/lease-table.ts'
import type { Memories } from './memories.ts'
import type { StageRuntime } from './stage-runtime.ts'

export interface MemorySplitInit {
  runtime: Pick<StageRuntime, 'processor' | 'events'>
  /** Leases on the GPU, and on the CPU that has its place while it may not be tried. */
  used: LeaseTable
  /** Leases on the CPU beside it. */
  beside: LeaseTable
  memories: Required<Memories>
}

/**
 * Which of two processors has how much of one memory. While the GPU is used it has its part and the CPU the rest; while it may not
 * be tried the CPU in its place has all, so that what was on both still fits. What is held stays wherever it is, and the other side
 * has that much less until it is given back: together the two never promise more than there is.
 */
export class MemorySplit implements Pick<LeaseTable, 'budgetBytes' | 'heldBytes' | 'lowerBudget'> {
  readonly #init: MemorySplitInit
  readonly #totalBytes: number
  #gpuBytes: number

  constructor(init: MemorySplitInit) {
    this.#init = init
    const { runtime, used, beside, memories } = init
    this.#gpuBytes = memories.budgetBytes
    this.#totalBytes = memories.budgetBytes + memories.besideBytes
    for (const { events } of [used, beside]) events.on('change', () => this.#share())
    runtime.events.on('change', () => this.#share())
  }

  get budgetBytes(): number {
    return this.#init.used.budgetBytes
  }

  get heldBytes(): number {
    return this.#init.used.heldBytes
  }

  /** The GPU has turned out to have less; the CPU has what it lacks. */
  lowerBudget(bytes: number): void {
    this.#gpuBytes = Math.min(this.#gpuBytes, bytes)
    this.#share()
  }

  #share(): void {
    const { runtime, used, beside } = this.#init
    if (runtime.processor.kind === 'gpu') {
      used.resize(this.#gpuBytes)
      beside.resize(this.#totalBytes - Math.max(this.#gpuBytes, used.heldBytes))
      return
    }
    // What waits there for its next session makes room for the CPU in the GPU's place.
    beside.evictAllIdle()
    const heldBytes = beside.heldBytes
    beside.resize(heldBytes)
    used.resize(this.#totalBytes - heldBytes)
  }
}
