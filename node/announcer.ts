import type { ModelStore } from '../models/store/store.ts'
import { messageOf } from '../protocols/text.ts'
import type { NodeRecord } from './api.ts'
import { BUNDLED_DRAFT } from './constants.ts'
import type { Mesh } from './mesh/index.ts'
import type { SaidProcessors } from './processor/said-processors.ts'
import type { LeaseTable } from './stage/lease-table.ts'
import type { Prefetches } from './weights/prefetches.ts'

export interface AnnouncerComponents {
  mesh: Pick<Mesh, 'update'>
  store: Pick<ModelStore, 'held' | 'heldLayers'>
  /** The memory that the record says is the device's, and those of processors beside it. */
  leases: LeaseTable
  besideLeases?: Pick<LeaseTable, 'state' | 'events'> | undefined
  /** What is said of processors; undefined on a device that computes on its CPU. */
  processors?: SaidProcessors | undefined
  prefetches: Pick<Prefetches, 'state'>
  /** One line for people where the store cannot be read. */
  onNotice: (message: string) => void
}

/** Tells the peers what is free and held here, whenever that changes. */
export class Announcer {
  readonly #components: AnnouncerComponents
  /** The store is being read, and has to be read again when that is done. */
  #reading = false
  #again = false

  constructor(components: AnnouncerComponents) {
    this.#components = components
    components.leases.events.on('change', () => this.announce())
    components.besideLeases?.events.on('change', () => this.announce())
  }

  /**
   * Announces models again; called when the store holds more than before, or less. One reading at a time: of two at once
   * the older one might end last.
   */
  announce(): void {
    this.#again = true
    if (!this.#reading) void this.#announceAll()
  }

  async #announceAll(): Promise<void> {
    this.#reading = true
    while (this.#again) {
      this.#again = false
      await this.#announce().catch(error =>
        this.#components.onNotice(`reading the store failed: ${messageOf(error)}`)
      )
    }
    this.#reading = false
  }

  async #announce(): Promise<void> {
    const { mesh, store, leases, besideLeases, processors, prefetches } = this.#components
    const models = await heldModels(store)
    processors?.noteModels(await store.held())
    const states = [...leases.state(() => 0), ...(besideLeases?.state(() => 0) ?? [])]
    const leased = states.map(({ modelId, layers, source }) => ({ modelId, layers, source }))
    const memory = { budgetBytes: leases.budgetBytes, freeBytes: leases.freeBytes }
    const said = processors && { processors: processors.state }
    mesh.update({ models, leases: leased, memory, prefetch: prefetches.state, ...said })
  }
}

/**
 * A model without a layer here is left out: no peer needs to know of it, nor of the bundled draft. What is only cached is told under its id, for
 * others to fetch layers of it: a name is given by who has imported a model, and by nobody for another.
 */
export async function heldModels(
  store: Pick<ModelStore, 'held' | 'heldLayers'>
): Promise<NodeRecord['models']> {
  const models = (await store.held()).filter(({ name }) => name !== BUNDLED_DRAFT)
  const held = await Promise.all(
    models.map(async ({ name, id, manifest }) => ({ name, id, layers: await store.heldLayers(manifest) }))
  )
  return held.filter(({ layers }) => layers.length > 0)
}
