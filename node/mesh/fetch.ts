import { setTimeout as delay } from 'node:timers/promises'
import { pipe } from 'it-pipe'
import { StoreError } from '../../models/errors.ts'
import type { BlobRef } from '../../models/manifest.ts'
import { PeerLostError, RemoteError } from '../../protocols/errors.ts'
import { messageOf } from '../../protocols/text.ts'
import type { WeightLink, WeightsService } from '../../protocols/weights/index.ts'

/** No holder could deliver a blob; the message names each with its reason. */
export class BlobUnavailableError extends Error {
  override readonly name = 'BlobUnavailableError'
}

export interface FetchBlobOptions {
  signal?: AbortSignal
  /** Bytes received so far, after every piece. */
  onProgress?: (bytes: number) => void
  /** What is known of the link to a peer. */
  link?: (peerId: string) => WeightLink | undefined
}

/** Passes over all holders before the blob is given up: a break now and then is no reason to. */
const ROUNDS = 3
/** Before a holder that was busy or broke off is asked again. */
const RETRY_AFTER_MS = 300

/**
 * A blob's bytes from several holders in turn: where one breaks off, the next goes on at the same byte. Not verified.
 *
 * @throws {BlobUnavailableError}
 */
export async function* fetchFromHolders(
  weights: Pick<WeightsService, 'fetch'>,
  ref: BlobRef,
  holders: readonly string[],
  { signal, link }: Pick<FetchBlobOptions, 'signal' | 'link'> = {}
): AsyncGenerator<Uint8Array> {
  const reasons = new Map<string, string>()
  const absent = new Set<string>()
  let offset = 0
  for (let round = 0; round < ROUNDS; round++) {
    for (const peerId of holders) {
      if (absent.has(peerId)) continue
      const known = link?.(peerId)
      const options = {
        offset,
        expectedBytes: ref.bytes,
        ...(signal && { signal }),
        ...(known && { link: known })
      }
      try {
        for await (const bytes of weights.fetch(peerId, ref.sha256, options)) {
          offset += bytes.byteLength
          yield bytes
        }
        return
      } catch (error) {
        if (!(error instanceof RemoteError || error instanceof PeerLostError)) throw error
        if (error instanceof RemoteError && error.code === 'absent') absent.add(peerId)
        reasons.set(peerId, messageOf(error))
      }
    }
    if (holders.every(peerId => absent.has(peerId))) break
    await delay(RETRY_AFTER_MS, undefined, { ...(signal && { signal }) })
  }
  const said = [...reasons].map(([peerId, reason]) => `${peerId}: ${reason}`).join('; ')
  throw new BlobUnavailableError(
    `weight file ${ref.sha256.slice(0, 12)} (${ref.bytes} bytes) is missing or damaged here and nobody delivered it: ` +
      `${said || 'no peer holds it'}; import the model again (edgeshard import)`
  )
}

/**
 * Fetches a blob into `put`, which must verify it. Bytes of several holders that do not verify together are fetched
 * again from each holder alone, so one that sends rubbish only costs time.
 */
export async function fetchVerified(
  weights: Pick<WeightsService, 'fetch'>,
  ref: BlobRef,
  holders: readonly string[],
  put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
  options: FetchBlobOptions = {}
): Promise<void> {
  const attempts = holders.length > 1 ? [holders, ...holders.map(holder => [holder])] : [holders]
  for (const [i, attempt] of attempts.entries()) {
    try {
      await pipe(fetchFromHolders(weights, ref, attempt, options), counted(options.onProgress), put)
      return
    } catch (error) {
      // What this device cannot keep nobody else can deliver.
      if (error instanceof StoreError) throw error
      const last = i === attempts.length - 1
      if (last || options.signal?.aborted || (i === 0 && error instanceof BlobUnavailableError)) throw error
    }
  }
}

/** Passes bytes on and tells how many the next stage has taken. */
function counted(onProgress: (bytes: number) => void = () => {}) {
  return async function* (source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let taken = 0
    for await (const bytes of source) {
      yield bytes
      taken += bytes.byteLength
      onProgress(taken)
    }
  }
}
