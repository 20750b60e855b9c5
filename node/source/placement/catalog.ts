import type { LayerRange } from '../../../models/layers.ts'
import type { Manifest } from '../../../models/manifest.ts'
import type { ModelStore } from '../../../models/store/store.ts'
import type { Tokenizer } from '../../../models/tokenizer/tokenizer.ts'
import { orAborted } from '../../aborted.ts'
import type { ModelSummary } from '../../api.ts'
import { DEFAULT_MODEL } from '../../constants.ts'
import { UnknownModelError } from '../../errors.ts'
import { connectedRecords, holdersOf, type Peers } from '../../mesh/peers.ts'
import type { ObtainedManifest, Weights } from '../../weights/weights.ts'
import { loadDeadlineMs } from './load-deadline.ts'
import { sideFilesOf, tokenizerOf } from './model-tokenizer.ts'

/** A model that this node can turn prompts into tokens for; its layers may be anywhere. */
export interface PromptableModel {
  name: string
  id: string
  manifest: Manifest
  tokenizer: Tokenizer
}

export interface CatalogComponents {
  store: Pick<ModelStore, 'has' | 'readSideFile'>
  peers: Pick<Peers, 'peerId' | 'self' | 'known'>
  weights: Pick<Weights, 'manifest' | 'obtain'>
}

interface KnownModel {
  name: string
  /** What its holders call it, the one name and any other. */
  names: Set<string>
  id: string
  holders: { peerId: string; name: string; layers: LayerRange[] }[]
}

type ModelFacts = Omit<ModelSummary, 'name' | 'id' | 'holders'>

/** A model whose manifest does not come within this time is left out of a list. */
const SUMMARY_TIMEOUT_MS = 10_000
const MAX_SEEN = 1024

/** Every model that this node or a connected peer holds, by name or id. */
export class Catalog {
  readonly #components: CatalogComponents
  readonly #tokenizers = new Map<string, Promise<Tokenizer>>()
  readonly #closing = new AbortController()
  readonly #seen = new Map<string, ModelFacts>()

  /** @param tokenizers those that are being loaded already, by their model's id; the catalog ends them. */
  constructor(
    components: CatalogComponents,
    tokenizers: ReadonlyMap<string, Promise<Tokenizer>> = new Map()
  ) {
    this.#components = components
    for (const [id, loading] of tokenizers) this.#keep(id, loading)
  }

  /** Models of the whole mesh; asks their holders for manifests that are not here, and keeps none of these. */
  async summaries({ signal }: { signal: AbortSignal }): Promise<ModelSummary[]> {
    const until = AbortSignal.any([signal, AbortSignal.timeout(SUMMARY_TIMEOUT_MS)])
    const summaries = await Promise.allSettled(
      this.#known().map(async known => {
        const { name, id, holders } = known
        return { name, id, ...(await this.#facts(known, until)), holders }
      })
    )
    // A peer that leaves while it is asked takes its models with it.
    return summaries.flatMap(summary => (summary.status === 'fulfilled' ? [summary.value] : []))
  }

  /**
   * @param nameOrId - absent: the bundled model, or the only one that there is
   * @throws {UnknownModelError} listing what there is
   */
  async resolve(
    nameOrId: string | undefined,
    { signal }: { signal: AbortSignal }
  ): Promise<{ name: string; id: string; manifest: Manifest }> {
    const known = this.#find(nameOrId)
    return { name: known.name, id: known.id, manifest: await this.#manifest(known, signal) }
  }

  /** Does as `resolve`, with the tokenizer loaded. */
  async promptable(
    nameOrId: string | undefined,
    { signal }: { signal: AbortSignal }
  ): Promise<PromptableModel> {
    const { name, id, manifest } = await this.resolve(nameOrId, { signal })
    const tokenizer = await this.#tokenizer(name, id, manifest, signal)
    return { name, id, manifest, tokenizer }
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the node is stopping'))
    const tokenizers = await Promise.allSettled(this.#tokenizers.values())
    await Promise.all(
      tokenizers.map(result => (result.status === 'fulfilled' ? result.value.close() : undefined))
    )
  }

  #known(): KnownModel[] {
    const known = new Map<string, KnownModel>()
    for (const { peerId, name: holder, models } of connectedRecords(this.#components.peers)) {
      for (const { name, id, layers } of models) {
        const model = known.get(id) ?? { name, names: new Set(), id, holders: [] }
        model.names.add(name)
        model.holders.push({ peerId, name: holder, layers })
        known.set(id, model)
      }
    }
    return [...known.values()]
  }

  #find(nameOrId: string | undefined): KnownModel {
    const known = this.#known()
    const asked = nameOrId ?? DEFAULT_MODEL
    const found =
      known.find(({ names, id }) => names.has(asked) || id === asked) ??
      (nameOrId === undefined && known.length === 1 ? known[0] : undefined)
    if (found !== undefined) return found
    const there =
      known.length === 0 ? 'there is no model at all' : `there are ${known.map(m => m.name).join(', ')}`
    throw new UnknownModelError(
      `nobody in the mesh holds the model ${asked}; ${there}. Bring one with edgeshard import or pull`
    )
  }

  async #manifest(known: KnownModel, signal: AbortSignal): Promise<Manifest> {
    const { manifest, keep } = await this.#obtain(known, signal)
    await keep()
    return manifest
  }

  /** What a list says of a model: an id stands for one content, so it is looked up once. */
  async #facts(known: KnownModel, signal: AbortSignal): Promise<ModelFacts> {
    const seen = this.#seen.get(known.id)
    if (seen !== undefined) return seen
    const { shape, precision, layers } = (await this.#obtain(known, signal)).manifest
    const facts = {
      architecture: shape.architecture,
      precision,
      decoderLayers: shape.decoderLayers,
      contextLength: shape.contextLength,
      weightBytes: layers.reduce((sum, { bytes }) => sum + bytes, 0)
    }
    if (this.#seen.size === MAX_SEEN) this.#seen.clear()
    this.#seen.set(known.id, facts)
    return facts
  }

  #obtain({ id, name, holders }: KnownModel, signal: AbortSignal): Promise<ObtainedManifest> {
    const { peers, weights } = this.#components
    const others = holders.map(({ peerId }) => peerId).filter(peerId => peerId !== peers.peerId)
    return weights.manifest({ id, name }, others, { signal })
  }

  async #tokenizer(name: string, id: string, manifest: Manifest, signal: AbortSignal): Promise<Tokenizer> {
    let loading = this.#tokenizers.get(id)
    if (loading === undefined) {
      // Shared with other requests meanwhile, so one caller's abort must not end it.
      loading = this.#loadTokenizer(name, id, manifest, this.#closing.signal)
      this.#keep(id, loading)
    }
    return await orAborted(loading, signal)
  }

  /** One that could not be loaded is tried again for the next one. */
  #keep(id: string, loading: Promise<Tokenizer>): void {
    this.#tokenizers.set(id, loading)
    loading.catch(() => this.#tokenizers.delete(id))
  }

  async #loadTokenizer(
    name: string,
    id: string,
    manifest: Manifest,
    signal: AbortSignal
  ): Promise<Tokenizer> {
    const { store, peers, weights } = this.#components
    const refs = Object.values(manifest.files)
    const held = await Promise.all(refs.map(ref => store.has(ref)))
    const missing = refs.filter((_, at) => !held[at])
    const bytes = missing.reduce((sum, ref) => sum + ref.bytes, 0)
    // The deadline of the slowest link that is waited for: the files are small.
    const lateMs = loadDeadlineMs({ peerId: peers.peerId, bytes, allBytes: bytes, holders: [] }, [])
    await weights.obtain(missing, holdersOf(peers, id), {
      modelId: id,
      signal: AbortSignal.any([signal, AbortSignal.timeout(lateMs)])
    })
    return await tokenizerOf(await sideFilesOf(store, { name, id, manifest }), manifest)
  }
}
