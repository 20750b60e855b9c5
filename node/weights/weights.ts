import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { StoreError } from '../../models/errors.ts'
import type { LayerRange } from '../../models/layers.ts'
import {
  type BlobRef,
  type Manifest,
  modelId,
  parseManifest,
  serializeManifest
} from '../../models/manifest.ts'
import { isModelName } from '../../models/store/catalog.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { messageOf } from '../../protocols/text.ts'
import type { WeightsHandlers } from '../../protocols/weights/index.ts'
import { MAX_MODELS_WITH_PEERS } from '../constants.ts'
import type { Peers } from '../mesh/peers.ts'
import { ManifestUnavailableError } from '../stage/errors.ts'
import type { Fetches } from './fetches.ts'
import { ManifestBudget } from './manifest-budget.ts'

/** Files fetched side by side; each has its own credit, so more of them would delay tokens on the same links. */
const MAX_FETCHES_AT_ONCE = 4
/** What sources place here never fills the disk that the device itself needs. */
const KEPT_FREE_BYTES = 2 ** 30
/** A peer's manifest of 1,024 layers of 12 tensors takes two thirds of it. */
const MAX_PEER_MANIFEST_BYTES = 4 << 20
const MAX_RECENT_MANIFESTS = 4
/** Progress is told so many times at most, however many pieces a file comes in. */
const PROGRESS_STEPS = 100

/** What is needed of the store to fill it. */
type FilledStore = Pick<ModelStore, 'list' | 'addModel' | 'intact' | 'putBlob' | 'requireSpace'>

export interface WeightsComponents {
  store: FilledStore
  peers: Pick<Peers, 'fetchBlob' | 'fetchRaw' | 'nameOf'>
  fetches: Fetches
  /** Called when the store holds more than before. */
  onStored?: () => void
}

/** A manifest that the store may not have yet. */
export interface ObtainedManifest {
  manifest: Manifest
  /**
   * Puts it into the store, under the model's name, or under its id where another model has that name.
   *
   * @throws {StoreError} when the store is full of models
   */
  keep(): Promise<void>
}

export interface ObtainOptions {
  /** Id of the model that the files belong to. */
  modelId: string
  /** The request that needs them. */
  requestId?: string | undefined
  signal: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** A store that is filled from peers: manifests and weight files that are not here come from peers that hold them. */
export class Weights {
  readonly #components: WeightsComponents
  readonly #budget = new ManifestBudget()
  /** Manifests that came from peers lately, by their ids: a source asks for a model again and again. */
  readonly #recent = new Map<string, Manifest>()

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
    const { store, peers } = this.#components
    const own = (await store.list()).find(({ id }) => id === model.id)
    if (own !== undefined) return { manifest: own.manifest, keep: async () => {} }
    const obtained = (manifest: Manifest) => ({
      manifest,
      keep: () => keepManifest(store, model, serializeManifest(manifest))
    })
    const said: string[] = []
    for (const peerId of holders) {
      try {
        return obtained(
          await this.#budget.inTurn(peerId, () => this.#fetchManifest(peerId, model.id, signal))
        )
      } catch (error) {
        signal.throwIfAborted()
        said.push(`${peers.nameOf(peerId)}: ${messageOf(error)}`)
      }
    }
    throw new ManifestUnavailableError(
      `the manifest of ${model.name} cannot be had: ${said.join('; ') || 'no connected peer holds the model'}`
    )
  }

  async #fetchManifest(peerId: string, id: string, signal: AbortSignal): Promise<Manifest> {
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
    this.#recent.set(id, manifest)
    return manifest
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
    return [...missing.values()]
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
    { modelId, requestId, signal, onProgress }: ObtainOptions
  ): Promise<void> {
    if (refs.length === 0) return
    const { store, fetches, onStored } = this.#components
    const total = refs.reduce((sum, { bytes }) => sum + bytes, 0)
    const step = total / PROGRESS_STEPS
    let reported = 0
    await store.requireSpace(total, KEPT_FREE_BYTES)
    await fetches.note({ modelId, total, requestId }, onDone =>
      fetchSideBySide(this.#components, refs, holders, signal, done => {
        onDone(done)
        if (done < total && done - reported < step) return
        reported = done
        onProgress?.(done, total)
      })
    )
    onStored?.()
  }
}

async function keepManifest(
  store: FilledStore,
  { id, name }: { id: string; name: string },
  bytes: Uint8Array
): Promise<void> {
  const held = await store.list()
  if (held.some(model => model.id === id)) return
  if (held.length >= MAX_MODELS_WITH_PEERS) {
    throw new StoreError(
      `${held.length} models are stored, and no more are taken from peers; remove some (edgeshard rm)`
    )
  }
  // A peer may call it what is no name here.
  const wanted = isModelName(name) ? name : id.slice(0, 12)
  const taken = held.some(model => model.name === wanted)
  await store.addModel(taken ? `${wanted.slice(0, 50)}-${id.slice(0, 8)}` : wanted, bytes)
}

async function fetchSideBySide(
  { store, peers }: WeightsComponents,
  refs: readonly BlobRef[],
  holders: readonly string[],
  signal: AbortSignal,
  onDone: (bytes: number) => void
): Promise<void> {
  const received = new Map<string, number>()
  const queue = refs.map((ref, i) => ({ ref, order: rotated(holders, i) }))
  const liars = new Set<string>()
  const failed = new AbortController()
  const until = AbortSignal.any([signal, failed.signal])
  const fetchInTurn = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { ref, order } = next
      // A peer that sent rubbish is asked last: one of its files may be damaged, and the others sound.
      const trusted = [...order].sort((a, b) => Number(liars.has(a)) - Number(liars.has(b)))
      await peers.fetchBlob(ref, trusted, bytes => store.putBlob(ref, bytes, { signal: until }), {
        signal: until,
        onProgress: bytes => {
          received.set(ref.sha256, bytes)
          onDone([...received.values()].reduce((sum, count) => sum + count, 0))
        },
        onLiar: peerId => liars.add(peerId)
      })
    }
  }
  const lanes = Math.min(refs.length, Math.max(1, holders.length), MAX_FETCHES_AT_ONCE)
  // One file that no holder delivers ends the others: without it they are of no use.
  const running = Array.from({ length: lanes }, () =>
    fetchInTurn().catch(error => {
      failed.abort(error)
      throw error
    })
  )
  await Promise.allSettled(running)
  failed.signal.throwIfAborted()
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

function rotated<T>(list: readonly T[], by: number): T[] {
  const start = list.length === 0 ? 0 : by % list.length
  return [...list.slice(start), ...list.slice(0, start)]
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}
