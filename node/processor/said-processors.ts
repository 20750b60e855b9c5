import type { Manifest } from '../../models/manifest.ts'
import { MAX_NAME_CHARS, MAX_PROCESSOR_MODELS } from '../../protocols/directory/constants.ts'
import type { LayerProfile, ProcessorState } from '../api.ts'
import type { LeaseTable } from '../stage/lease-table.ts'
import { kindOf } from './gpu-refusals.ts'
import type { StageRuntime } from './stage-runtime.ts'

export interface SaidProcessorsInit {
  runtime: Pick<StageRuntime, 'processor' | 'processorOf'>
  /** Name that the CPU gives itself. */
  cpu: string
  /** The GPU and its driver, in a line. */
  driver: string
  /** Whether the GPU's rows were found to be the same to the bit in whatever steps and company; undefined: not tried. */
  keepsBits: boolean | undefined
}

/** What the record says of the processors of a device with a GPU. */
export class SaidProcessors {
  readonly #init: SaidProcessorsInit
  #refuses: string[] = []
  /** Times by model id of the CPU beside a GPU that is used. */
  besideProfiles: Record<string, LayerProfile> = {}
  /** The CPU's own memory, where it computes beside the GPU. */
  besideLeases: Pick<LeaseTable, 'budgetBytes' | 'freeBytes'> | undefined

  constructor(init: SaidProcessorsInit) {
    this.#init = init
  }

  /** Looks which of the models at hand the GPU refuses. */
  noteModels(models: readonly { id: string; manifest: Manifest }[]): void {
    const { runtime } = this.#init
    if (runtime.processor.kind === 'cpu') return
    const refused = models.filter(({ manifest }) => runtime.processorOf(kindOf(manifest)) === 'cpu')
    this.#refuses = refused.map(({ id }) => id).slice(-MAX_PROCESSOR_MODELS)
  }

  get state(): ProcessorState[] {
    const { runtime, cpu, driver, keepsBits } = this.#init
    const usesGpu = runtime.processor.kind === 'gpu'
    return [
      { kind: 'cpu', name: cpu.slice(0, MAX_NAME_CHARS), used: !usesGpu, ...(usesGpu && this.#beside) },
      {
        kind: 'gpu',
        name: driver.slice(0, MAX_NAME_CHARS),
        used: usesGpu,
        ...(keepsBits !== undefined && { keepsBits }),
        ...(usesGpu && this.#refuses.length > 0 && { refuses: this.#refuses })
      }
    ]
  }

  /** While the CPU has the GPU's place it has the GPU's memory, too, and none beside it is offered. */
  get #beside(): Pick<ProcessorState, 'memory' | 'profiles'> {
    if (this.besideLeases === undefined) return {}
    const { budgetBytes, freeBytes } = this.besideLeases
    const newest = Object.entries(this.besideProfiles).slice(-MAX_PROCESSOR_MODELS)
    return { memory: { budgetBytes, freeBytes }, profiles: Object.fromEntries(newest) }
  }
}
