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
import type { Transport } from '../transport.ts'
import { type FetchOptions, fetchBlob } from './client.ts'
import { serveWeights, type WeightsHandlers } from './server.ts'

export type { FetchOptions } from './client.ts'
export type { WeightsCode } from './codes.ts'
export type { WeightLink } from './credit.ts'
export type { WeightsHandlers } from './server.ts'

export interface WeightsService {
  /**
   * Fetches a blob from a peer, from `offset` on. The bytes are unverified: the caller checks their SHA-256.
   * Nothing more is requested than the consumer takes.
   *
   * @throws {RemoteError} code `absent`, `busy` or `internal`, {PeerLostError} when the peer breaks off.
   */
  fetch(peerId: string, sha256: string, options?: FetchOptions): AsyncGenerator<Uint8Array>
  readonly counters: Readonly<{ weightBytesSent: number; weightBytesReceived: number }>
  stop(): Promise<void>
}

/** @param options.onCame - called with the bytes of every piece that a peer has sent, unless they are paced, when they are read */
export async function createWeightsService(
  transport: Transport,
  handlers: WeightsHandlers,
  { onCame = () => {} }: { onCame?: (peerId: string, bytes: number) => void } = {}
): Promise<WeightsService> {
  const counters = { weightBytesSent: 0, weightBytesReceived: 0 }
  const { stop } = await serveWeights(transport, handlers, counters)
  return {
    fetch(peerId, sha256, options) {
      const came = (bytes: number) => {
        counters.weightBytesReceived += bytes
        if (options?.isPaced !== true) onCame(peerId, bytes)
      }
      return fetchBlob(transport, came, peerId, sha256, options)
    },
    counters,
    stop
  }
}
