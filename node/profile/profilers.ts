import type { NodeRecord } from '../api.ts'
import type { Mesh } from '../mesh/index.ts'
import type { SaidProcessors } from '../processor/said-processors.ts'
import type { Profiler } from './profiler.ts'

/** The times of a device's layers on the processor that it uses, and on the one beside that, where there is one. */
export class Profilers {
  readonly #used: Profiler
  readonly #beside: Profiler | undefined

  constructor(used: Profiler, beside: Profiler | undefined) {
    this.#used = used
    this.#beside = beside
  }

  /** Starts both, as `Profiler.start`. */
  async start(options: Parameters<Profiler['start']>[0]): Promise<void> {
    await Promise.all([this.#used.start(options), this.#beside?.start(options)])
  }

  /** Has both time a model, as `Profiler.time`. */
  async time(...timed: Parameters<Profiler['time']>): Promise<void> {
    await this.#used.time(...timed)
    await this.#beside?.time(...timed)
  }

  /** Another processor is used, as `Profiler.processorChanged`; the one beside it stays what it is. */
  async processorChanged(): Promise<void> {
    await this.#used.processorChanged()
  }

  async settled(): Promise<void> {
    await this.#used.settled()
    await this.#beside?.settled()
  }
}

/** The record for the timing of the processor beside the one that is used: the times in it are that one's. */
export class BesideMesh implements Pick<Mesh, 'self' | 'update'> {
  readonly #mesh: Pick<Mesh, 'self' | 'update'>
  readonly #said: Pick<SaidProcessors, 'besideProfiles' | 'state'>

  constructor(mesh: Pick<Mesh, 'self' | 'update'>, said: Pick<SaidProcessors, 'besideProfiles' | 'state'>) {
    this.#mesh = mesh
    this.#said = said
  }

  get self(): NodeRecord {
    return { ...this.#mesh.self, profiles: this.#said.besideProfiles }
  }

  update({ profiles }: Parameters<Mesh['update']>[0]): void {
    if (profiles === undefined) return
    this.#said.besideProfiles = profiles
    this.#mesh.update({ processors: this.#said.state })
  }
}
