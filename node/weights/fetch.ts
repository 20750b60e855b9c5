import { setTimeout as delay } from 'node:timers/promises'
import { pipe } from 'it-pipe'
import { BlobError, StoreError } from '../../models/errors.ts'
import type { BlobRef } from '../../models/manifest.ts'
import { isViolation, PeerLostError, RemoteError } from '../../protocols/errors.ts'
import { messageOf } from '../../protocols/text.ts'
import type { WeightLink, WeightsService } from '../../protocols/weights/index.ts'

/** No holder could deliver a blob; the message names each with its reason. */
export class BlobUnavailableError extends Error {
  override readonly name = 'BlobUnavailableError'
  readonly code = 'blob_unavailable'
}

export interface FetchBlobOptions {
  signal?: AbortSignal
  /** Bytes received so far, after every piece. */
  onProgress?: (bytes: number) => void
  /** What is known of the link to a peer. */
  link?: (peerId: string) => WeightLink | undefined
  /** The caller takes them slower than they could come. @default false */
  isPaced?: boolean
  /** Called with a holder whose bytes were not those of the blob. */
  onLiar?: (peerId: string) => void
}

/** A holder that breaks off is waited for so long: by then a node is started again, or a cable plugged in. */
const PATIENCE_MS = 15_000
/** Each is asked so often at least: one that stalls for as long may have been busy. */
const MIN_ATTEMPTS = 2
/** Before a holder that was busy or broke off is asked again. */
const RETRY_AFTER_MS = 300

/**
 * A blob's bytes from several holders in turn: where one breaks off, the next goes on at the same byte. Not verified.
 * Holders that are busy are asked until they are not, for as long as the caller waits.
 *
 * @throws {BlobUnavailableError} when none has it, or nothing came for PATIENCE_MS
 */
export async function* fetchFromHolders(
  weights: Pick<WeightsService, 'fetch'>,
  ref: BlobRef,
  holders: readonly string[],
  {
    signal,
    link,
    isPaced = false,
    onSent = () => {}
  }: Pick<FetchBlobOptions, 'signal' | 'link' | 'isPaced'> & { onSent?: (peerId: string) => void } = {}
): AsyncGenerator<Uint8Array> {
  const reasons = new Map<string, string>()
  /** Holders that have no such blob, or speak wrongly: of no use to ask again. */
  const useless = new Set<string>()
  const attempts = new Map<string, number>()
  let offset = 0
  let deadlineMs = performance.now() + PATIENCE_MS
  const worthAsking = (peerId: string) =>
    !useless.has(peerId) && (performance.now() < deadlineMs || (attempts.get(peerId) ?? 0) < MIN_ATTEMPTS)
  while (holders.some(worthAsking)) {
    for (const peerId of holders) {
      if (!worthAsking(peerId)) continue
      attempts.set(peerId, (attempts.get(peerId) ?? 0) + 1)
      const known = link?.(peerId)
      const from = offset
      const options = {
        offset,
        expectedBytes: ref.bytes,
        ...(signal && { signal }),
        ...(known && { link: known }),
        ...(isPaced && { isPaced })
      }
      try {
        for await (const bytes of weights.fetch(peerId, ref.sha256, options)) {
          offset += bytes.byteLength
          onSent(peerId)
          yield bytes
        }
        return
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof RemoteError || error instanceof PeerLostError)) throw error
        const code = error instanceof RemoteError ? error.code : undefined
        const wrong = error.cause instanceof Error && isViolation(error.cause)
        if (code === 'absent' || wrong) useless.add(peerId)
        if (code === 'busy' || offset > from) deadlineMs = performance.now() + PATIENCE_MS
        reasons.set(peerId, messageOf(error))
      }
    }
    if (useless.size < holders.length)
      await delay(RETRY_AFTER_MS, undefined, { ...(signal && { signal }) }).catch(() =>
        signal?.throwIfAborted()
      )
  }
  const said = [...reasons].map(([peerId, reason]) => `${peerId}: ${reason}`).join('; ')
  throw new BlobUnavailableError(
    `weight file ${ref.sha256.slice(0, 12)} (${ref.bytes} bytes) is missing or damaged here and nobody delivered it: ` +
      `${said || 'no peer holds it'}; import the model again (edgeshard import)`
  )
}

/**
 * Fetches a blob into `put`, which must verify it. Bytes of several holders that do not verify together are fetched
 * again from each holder alone, but for one whose bytes alone did not: so a liar only costs time.
 */
export async function fetchVerified(
  weights: Pick<WeightsService, 'fetch'>,
  ref: BlobRef,
  holders: readonly string[],
  put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
  options: FetchBlobOptions = {}
): Promise<void> {
  const liars = new Set<string>()
  const attempt = async (from: readonly string[]): Promise<void> => {
    const senders = new Set<string>()
    const onSent = (peerId: string) => senders.add(peerId)
    try {
      await pipe(
        fetchFromHolders(weights, ref, from, { ...options, onSent }),
        counted(options.onProgress),
        put
      )
    } catch (error) {
      if (!(error instanceof BlobError) || error.problem !== 'corrupt') throw error
      const [liar] = senders
      if (senders.size !== 1 || liar === undefined) throw error
      liars.add(liar)
      options.onLiar?.(liar)
      throw new BlobError(ref.sha256, 'corrupt', `${error.message}; ${liar} sent it`, { cause: error })
    }
  }
  let failure: unknown
  try {
    return await attempt(holders)
  } catch (error) {
    // Only rubbish is a reason to ask again: what no holder has, or this device cannot keep, no other holder can deliver.
    if (!(error instanceof BlobError)) throw error
    failure = error
  }
  for (const holder of holders) {
    if (liars.has(holder)) continue
    try {
      return await attempt([holder])
    } catch (error) {
      options.signal?.throwIfAborted()
      if (error instanceof StoreError) throw error
      failure = error
    }
  }
  throw failure
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
