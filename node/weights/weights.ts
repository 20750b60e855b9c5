import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { LayerRange } from '../../models/layers.ts'
import { type BlobRef, type Manifest, modelId, parseManifest } from '../../models/manifest.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { LOAD_PROGRESS_MS } from '../../protocols/lease/constants.ts'
import { messageOf } from '../../protocols/text.ts'
import type { WeightsHandlers } from '../../protocols/weights/index.ts'
import { KEPT_FREE_BYTES } from '../constants.ts'
import type { Peers } from '../mesh/peers.ts'
import { ManifestUnavailableError } from '../stage/errors.ts'
import type { Fetches } from './fetches.ts'
import { ManifestBudget } from './manifest-budget.ts'
import type { ModelCache } from './model-cache.ts'
import { fetchSideBySide } from './side-by-side.ts'

/** A peer's manifest of 1,024 layers of 12 tensors takes two thirds of it. */
const MAX_PEER_MANIFEST_BYTES = 4 << 20
const MAX_RECENT_MANIFESTS = 4
/** Progress is told in so many steps, however many pieces a file comes in, and after LOAD_PROGRESS_MS where one takes longer. */
const PROGRESS_STEPS = 100

/** What is needed of the store to fill it. */
type FilledStore = Pick<ModelStore, 'held' | 'intact' | 'putBlob' | 'requireSpace'>

export interface WeightsComponents {
  store: FilledStore
  peers: Pick<Peers, 'peerId' | 'fetchBlob' | 'fetchRaw' | 'nameOf'>
  /** What of others' models is kept. */
  cache: Pick<ModelCache, 'keep' | 'claim' | 'makeRoom'>
  fetches: Fetches
  /** Called when the store holds more than before. */
  onStored?: () => void
  /** Called with files that were found missing or damaged. */
  onMissing?: (files: readonly BlobRef[]) => void
}

/** A manifest that the store may not have yet. */
export interface ObtainedManifest {
  manifest: Manifest
  /**
   * Puts it into the store's cache in the name of the source that uses it, unless it is a model of the user's own.
   *
   * @param source peer id @default this node's own
   * @param isSpare no other model goes for it @default false
   * @throws {StoreError} when the cache is full of models that are in use
   */
  keep(source?: string, isSpare?: boolean): Promise<void>
}

export interface ObtainOptions {
  /** Id of the model that the files belong to. */
  modelId: string
  /** Peer id of the source that they are for. @default this node's own */
  source?: string
  /** The request that needs them. */
  requestId?: string | undefined
  signal: AbortSignal
  onProgress?: (done: number, total: number) => void
  /**
   * Resolves when so many bytes more may come: one file after the other, from the first holder that has it. Nobody waits for such
   * files, and no other model goes for them.
   */
  pace?: ((bytes: number) => Promise<void>) | undefined
}

/** A manifest as a peer sent it. */
interface FetchedManifest {
  manifest: Manifest
  /** What its id is the SHA-256 of. */
  bytes: Uint8Array
}

/** A store that is filled from peers: manifests and weight files that are not here come from peers that hold them. */
export class Weights {
  readonly #components: WeightsComponents
  readonly #budget = new ManifestBudget()
  /** Manifests that came from peers lately, by their ids: a source asks for a model again and again. */
  readonly #recent = new Map<string, FetchedManifest>()

  constructor(components: WeightsComponents) {
    this.#components = components
  }

  /**
   * The manifest of a model, from the store, else from one of `holders`. What a peer sent is not stored yet: a
   * request that merely asks must not fill a home.
   *
   * @throws {ManifestUnavailableError} with what each holder said
   */
  async manifest(
    model: { id: string; name: string },
    holders: readonly string[],
    { signal }: { signal: AbortSignal }
  ): Promise<ObtainedManifest> {
    const { store, peers, cache } = this.#components
    const { peerId: self } = peers
    const held = (await store.held()).find(({ id }) => id === model.id)
    if (held !== undefined) {
      return {
        manifest: held.manifest,
        keep: (source = self, isSpare) => cache.claim(model.id, source, isSpare)
      }
    }
    const { id, name: called } = model
    const said: string[] = []
    for (const peerId of holders) {
      try {
        const { manifest, bytes } = await this.#budget.inTurn(peerId, () =>
          this.#fetchManifest(peerId, id, signal)
        )
        return {
          manifest,
          keep: (source = self, isSpare) => cache.keep({ id, called, bytes }, source, isSpare)
        }
      } catch (error) {
        signal.throwIfAborted()
        said.push(`${peers.nameOf(peerId)}: ${messageOf(error)}`)
      }
    }
    throw new ManifestUnavailableError(
      `the manifest of ${model.name} cannot be had: ${said.join('; ') || 'no connected peer holds the model'}`
    )
  }

  async #fetchManifest(peerId: string, id: string, signal: AbortSignal): Promise<FetchedManifest> {
    signal.throwIfAborted()
    const recent = this.#recent.get(id)
    if (recent !== undefined) return recent
    const waitS = this.#budget.waitS(peerId)
    if (waitS > 0) throw new Error(`it has sent too many manifests; none is taken from it for ${waitS} s`)
    const bytes = await collect(
      this.#components.peers.fetchRaw(peerId, id, { maxBytes: MAX_PEER_MANIFEST_BYTES, signal })
    )
    let manifest: Manifest | undefined
    try {
      if (modelId(bytes) !== id) throw new Error('it sent another manifest than it was asked for')
      manifest = parseManifest(bytes)
    } finally {
      this.#budget.spend(peerId, bytes.byteLength, { failed: manifest === undefined })
    }
    const [oldest] = this.#recent.keys()
    if (this.#recent.size === MAX_RECENT_MANIFESTS && oldest !== undefined) this.#recent.delete(oldest)
    const fetched = { manifest, bytes }
    this.#recent.set(id, fetched)
    return fetched
  }

  /** The files of a layer range that the store does not hold, or holds damaged. */
  async missing(
    manifest: Manifest,
    [start, end]: LayerRange,
    options: { signal: AbortSignal }
  ): Promise<BlobRef[]> {
    const missing = new Map<string, BlobRef>()
    for (const layer of manifest.layers.slice(start, end)) {
      if (!(await this.#components.store.intact(layer, options))) missing.set(layer.sha256, layer)
    }
    const files = [...missing.values()]
    if (files.length > 0) this.#components.onMissing?.(files)
    return files
  }

  /**
   * Brings files into the store from those of `holders` that have them: as many at once as there are holders, each
   * starting with another one, so that no single link or disk is the limit. A peer that sent rubbish is asked last from then on.
   *
   * @throws {BlobUnavailableError} naming the file and what each holder said; {StoreError} when the disk has no room
   */
  async obtain(
    refs: readonly BlobRef[],
    holders: readonly string[],
    { modelId, source, requestId, signal, onProgress, pace }: ObtainOptions
  ): Promise<void> {
    if (refs.length === 0) return
    const { store, peers, cache, fetches, onStored } = this.#components
    const total = refs.reduce((sum, { bytes }) => sum + bytes, 0)
    const step = total / PROGRESS_STEPS
    let reported = 0
    let reportedAtMs = performance.now()
    const isSpare = pace !== undefined
    await cache.makeRoom({ id: modelId, source: source ?? peers.peerId, bytes: total, isSpare })
    await store.requireSpace(total, KEPT_FREE_BYTES)
    await fetches.note({ modelId, total, requestId, isSpare }, onDone =>
      fetchSideBySide(this.#components, refs, holders, { signal, pace }, done => {
        onDone(done)
        const nowMs = performance.now()
        if (done < total && done - reported < step && nowMs - reportedAtMs < LOAD_PROGRESS_MS) return
        reported = done
        reportedAtMs = nowMs
        onProgress?.(done, total)
      })
    )
    onStored?.()
  }
}

/** Every file of the store, by its SHA-256, for peers that fetch it. */
export function blobsOf(store: ModelStore): WeightsHandlers {
  return {
    async open(sha256) {
      const path = store.blobPath(sha256)
      const bytes = await stat(path).then(
        ({ size }) => size,
        () => undefined
      )
      return bytes === undefined
        ? null
        : { bytes, stream: offset => createReadStream(path, { start: offset }) }
    }
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}
