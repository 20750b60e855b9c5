import type { BlobRef } from '../../models/manifest.ts'
import type { ModelStore } from '../../models/store/store.ts'
import type { Peers } from '../mesh/peers.ts'

/** Files fetched side by side; each has its own credit, so more of them would delay tokens on the same links. */
const MAX_FETCHES_AT_ONCE = 4
/**
 * With so few bytes of a file to come the next one is asked for: on the way there and back, and while the last one is checked,
 * the link would stand. A link of 100 Mbps takes 40 ms for them.
 */
const NEXT_AT_BYTES = 512 * 1024

export interface FetchingComponents {
  store: Pick<ModelStore, 'putBlob'>
  peers: Pick<Peers, 'fetchBlob'>
}

export interface FetchingOptions {
  signal: AbortSignal
  /** Resolves when so many bytes more may come. Absent: as fast as they do. */
  pace?: ((bytes: number) => Promise<void>) | undefined
}

/**
 * Brings files into the store, as many at once as there are holders, each starting with another one. From a single one
 * the next file is asked for before the last one is all here, and comes while that is checked and written out, so that its link
 * does not stand; no more than one, for a disk may be slower.
 *
 * @param onDone is called with the bytes of all files that have come so far
 * @throws what ended the first file that could not be had
 */
export async function fetchSideBySide(
  { store, peers }: FetchingComponents,
  refs: readonly BlobRef[],
  holders: readonly string[],
  { signal, pace }: FetchingOptions,
  onDone: (bytes: number) => void
): Promise<void> {
  const received = new Map<string, number>()
  const queue = refs.map((ref, i) => ({ ref, order: rotated(holders, pace === undefined ? i : 0) }))
  const liars = new Set<string>()
  const failed = new AbortController()
  const until = AbortSignal.any([signal, failed.signal])
  const fetch = async (ref: BlobRef, order: readonly string[], onNearlyHere: () => void): Promise<void> => {
    // A peer that sent rubbish is asked last: one of its files may be damaged, and the others sound.
    const trusted = [...order].sort((a, b) => Number(liars.has(a)) - Number(liars.has(b)))
    const put = (bytes: AsyncIterable<Uint8Array>) =>
      store.putBlob(ref, pace === undefined ? bytes : paced(bytes, pace), { signal: until })
    await peers.fetchBlob(ref, trusted, put, {
      signal: until,
      isPaced: pace !== undefined,
      onProgress: bytes => {
        received.set(ref.sha256, bytes)
        if (ref.bytes - bytes <= NEXT_AT_BYTES) onNearlyHere()
        onDone([...received.values()].reduce((sum, count) => sum + count, 0))
      },
      onLiar: peerId => liars.add(peerId)
    })
  }
  const most = pace === undefined ? MAX_FETCHES_AT_ONCE : 1
  const lanes = Math.min(refs.length, Math.max(1, holders.length), most)
  // Of several holders one sends while the file of another one is written, and what is paced has time.
  const asksAhead = lanes === 1 && pace === undefined
  const fetchInTurn = async () => {
    let before: Promise<void> = Promise.resolve()
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const nearlyHere = Promise.withResolvers<void>()
      const stored = fetch(next.ref, next.order, nearlyHere.resolve).catch(error => {
        // One file that no holder delivers ends the others: without it they are of no use.
        failed.abort(error)
      })
      await (asksAhead ? Promise.race([nearlyHere.promise, stored]) : stored)
      await before
      if (failed.signal.aborted) return await stored
      before = stored
    }
    await before
  }
  await Promise.all(Array.from({ length: lanes }, fetchInTurn))
  failed.signal.throwIfAborted()
}

/** Nothing more is requested than is taken, so a holder sends as slowly as this takes. */
async function* paced(
  source: AsyncIterable<Uint8Array>,
  pace: (bytes: number) => Promise<void>
): AsyncGenerator<Uint8Array> {
  for await (const bytes of source) {
    yield bytes
    await pace(bytes.byteLength)
  }
}

function rotated<T>(list: readonly T[], by: number): T[] {
  const start = list.length === 0 ? 0 : by % list.length
  return [...list.slice(start), ...list.slice(0, start)]
}
