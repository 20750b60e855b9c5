/**
 * Models without a mesh: the store of a home directory, import of checkpoints, and what a manifest says. Needs Node 22.18 or
 * newer.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { importModel, ModelStore } from 'edgeshard/models'
 *
 * const store = await ModelStore.open('/var/lib/edgeshard/store')
 * const { id, manifest } = await importModel('/data/Llama-3.2-1B', store, { name: 'llama', quantize: 'q4' })
 * console.log(id, manifest.layers.length)
 * ```
 */

export * from './errors.ts'
export type { Architecture } from './import/architectures/architecture.ts'
export { type ImportOptions, importModel } from './import/import-model.ts'
export type { Naming } from './import/naming.ts'
export type { QuantizeMode, Rounding } from './import/rounding.ts'
export type { StoreCost, StoreOffer } from './import/store-cost.ts'
export type * from './layers.ts'
export type * from './manifest.ts'
export type { CachedModel, Claims } from './store/cached-models.ts'
export type { BrokenModel, StoredModel } from './store/catalog.ts'
export type { ModelDraft } from './store/draft.ts'
export { ModelStore } from './store/store.ts'
export * from './tokenizer/errors.ts'
