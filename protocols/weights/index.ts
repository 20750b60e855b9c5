/**
 * The weights protocol: any blob of a peer's store by its SHA-256 (a layer's file, a manifest, a tokenizer), from any
 * offset, under receiver credits so that a token on the same connection never waits behind a megabyte.
 *
 * @example
 * ```ts
 * const weights = await createWeightsService(host, { open: sha256 => store.openBlob(sha256) })
 * await store.putBlob(ref, weights.fetch(peerId, ref.sha256))
 * ```
 */
export type { WeightLink } from './credit.ts'
export {
  createWeightsService,
  type FetchOptions,
  type WeightsHandlers,
  type WeightsService
} from './weights.ts'
