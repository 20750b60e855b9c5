import type { LayerRange } from '../../../models/layers.ts'
import type { Manifest } from '../../../models/manifest.ts'
import type { ModelStore } from '../../../models/store/store.ts'
import type { Tokenizer } from '../../../models/tokenizer/tokenizer.ts'
import { orAborted } from '../../aborted.ts'
import type { ModelSummary } from '../../api.ts'
import { DEFAULT_MODEL } from '../../constants.ts'
import { AmbiguousModelError, UnknownModelError } from '../../errors.ts'
import { connectedRecords, holdersOf, isNamed, type Peers } from '../../mesh/peers.ts'
import { thereIs } from '../../there-is.ts'
import type { ObtainedManifest, Weights } from '../../weights/weights.ts'
import type { Deployments } from './deployments.ts'
import { loadDeadlineMs } from './load-deadline.ts'
import { sideFilesOf, tokenizerOf } from './model-tokenizer.ts'
import type { OwnLoads } from './own-loads.ts'

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
  /** Told of tokenizers that start. */
  ownLoads: Pick<OwnLoads, 'tokenizerBegins' | 'tokenizerEnds'>
  /** While the model that was prompted last is placed, its tokenizer stays, though it be idle. */
  deployments: Pick<Deployments, 'isPlaced'>
  /** One line for people where a name means this device's own model, though others call another one so. */
  onNotice: (message: string) => void
}

interface KnownModel {
  /** What this device calls it, else what most of its holders do; its id where nobody has a name for it. */
  name: string
  /** What its holders call it, the one name and any other. */
  names: Set<string>
  id: string
  /** Names of the user's own model on this device. */
  ownNames: Set<string>
  holders: { peerId: string; name: string; layers: LayerRange[] }[]
}

type ModelFacts = Omit<ModelSummary, 'name' | 'id' | 'holders'>

/** A model whose manifest does not come within this time is left out of a list. */
const SUMMARY_TIMEOUT_MS = 10_000
const MAX_SEEN = 1024
/** The beginning of an id stands for it from so many digits on, where no other model's begins alike. */
const ID_PREFIX = /^[0-9a-f]{8,64}$/

/**
 * Every model that this node or a connected peer holds, by name or id.
 *
 * A name means the user's own model on this device, where it has one so called: the user gave it that name, and what others
 * call theirs must neither replace it nor forbid it. It is said where they do. Else a name that two models of the mesh have
 * means neither of them, whoever holds which.
 */
export class Catalog {
  readonly #components: CatalogComponents
  readonly #tokenizers = new Map<string, Promise<Tokenizer>>()
  /** The model that was prompted last. */
  #lastId: string | undefined
  readonly #closing = new AbortController()
  readonly #seen = new Map<string, ModelFacts>()
  /** What was said of names that others use too. */
  readonly #said = new Set<string>()

  /** @param tokenizers those that are being loaded already, by their model's id; the catalog ends them. */
  constructor(
    components: CatalogComponents,
    tokenizers: ReadonlyMap<string, Promise<Tokenizer>> = new Map()
  ) {
    this.#components = components
    for (const [id, loading] of tokenizers) this.#keep(id, loading)
  }

  /** Models of the whole mesh that have a name; asks their holders for manifests that are not here, and keeps none of these. */
  async summaries({ signal }: { signal: AbortSignal }): Promise<ModelSummary[]> {
    const until = AbortSignal.any([signal, AbortSignal.timeout(SUMMARY_TIMEOUT_MS)])
    const summaries = await Promise.allSettled(
      this.#known()
        .filter(({ names }) => names.size > 0)
        .map(async known => {
          const { name, id, holders } = known
          return { name, id, ...(await this.#facts(known, until)), holders }
        })
    )
    // A peer that leaves while it is asked takes its models with it.
    return summaries.flatMap(summary => (summary.status === 'fulfilled' ? [summary.value] : []))
  }

  /**
   * @param nameOrId - a name, an id or the beginning of one; absent: the bundled model, or the only one that there is
   * @throws {UnknownModelError} listing what there is; {AmbiguousModelError} listing the models that it could mean
   */
  async resolve(
    nameOrId: string | undefined,
    { signal }: { signal: AbortSignal }
  ): Promise<{ name: string; id: string; manifest: Manifest }> {
    const known = this.#find(nameOrId)
    return { name: known.name, id: known.id, manifest: await this.#manifest(known, signal) }
  }

  /**
   * Does as `resolve`, with the tokenizer loaded.
   *
   * @param options `onKnown`: told which model it is, before the tokenizer is loaded
   */
  async promptable(
    nameOrId: string | undefined,
    {
      signal,
      onKnown
    }: { signal: AbortSignal; onKnown?: (model: Omit<PromptableModel, 'tokenizer'>) => void }
  ): Promise<PromptableModel> {
    const { name, id, manifest } = await this.resolve(nameOrId, { signal })
    onKnown?.({ name, id, manifest })
    this.#lastId = id
    const tokenizer = await this.#tokenizer(name, id, manifest, signal)
    return { name, id, manifest, tokenizer }
  }

  /** Whether the tokenizer of a model may end while it is idle. One of a node stays: they take 100 MB and more each. */
  mayRest(modelId: string): boolean {
    return modelId !== this.#lastId || !this.#components.deployments.isPlaced(modelId)
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the node is stopping'))
    const tokenizers = await Promise.allSettled(this.#tokenizers.values())
    await Promise.all(
      tokenizers.map(result => (result.status === 'fulfilled' ? result.value.close() : undefined))
    )
  }

  #known(): KnownModel[] {
    const { peers } = this.#components
    const known = new Map<string, KnownModel>()
    const votes = new Map<string, number>()
    for (const { peerId, name: holder, models } of connectedRecords(peers)) {
      for (const { name, id, layers } of models) {
        const model = known.get(id) ?? { name: id, names: new Set(), id, ownNames: new Set(), holders: [] }
        known.set(id, model)
        model.holders.push({ peerId, name: holder, layers })
        if (!isNamed({ name })) continue
        model.names.add(name)
        if (peerId === peers.peerId) model.ownNames.add(name)
        votes.set(`${id} ${name}`, (votes.get(`${id} ${name}`) ?? 0) + 1)
      }
    }
    for (const model of known.values()) {
      const votesOf = (name: string) => votes.get(`${model.id} ${name}`)!
      const names = model.ownNames.size > 0 ? model.ownNames : model.names
      model.name = [...names].sort().sort((a, b) => votesOf(b) - votesOf(a))[0] ?? model.id
    }
    return [...known.values()]
  }

  #find(nameOrId: string | undefined): KnownModel {
    const known = this.#known()
    const asked = nameOrId ?? DEFAULT_MODEL
    const named = (model: KnownModel): KnownModel => ({ ...model, name: asked })
    const exact = known.find(({ id }) => id === asked)
    if (exact !== undefined) return exact
    const meant = known.filter(
      ({ names, id }) => names.has(asked) || (ID_PREFIX.test(asked) && id.startsWith(asked))
    )
    const own = meant.find(({ ownNames }) => ownNames.has(asked))
    if (own !== undefined) {
      this.#sayOthers(asked, own, meant)
      return named(own)
    }
    const [one, ...others] = meant
    if (one !== undefined && others.length === 0) return one.names.has(asked) ? named(one) : one
    if (one !== undefined) {
      throw new AmbiguousModelError(
        `${asked} is the name of ${meant.length} models in the mesh: ${meant.map(withHolders).join('; ')}. ` +
          'Name the one that you mean by its id, or the first 12 digits of it'
      )
    }
    const all = known.filter(({ names }) => names.size > 0)
    if (nameOrId === undefined && all.length === 1) return all[0]!
    const there = all.length === 0 ? 'there is no model at all' : thereIs(all.map(({ name }) => name))
    throw new UnknownModelError(
      `nobody in the mesh holds the model ${asked}; ${there}. Bring one with edgeshard import or pull`
    )
  }

  /** Says once which model a name means here that others give to another one. */
  #sayOthers(asked: string, own: KnownModel, meant: readonly KnownModel[]): void {
    for (const other of meant) {
      const key = `${asked} ${own.id} ${other.id}`
      if (other === own || this.#said.has(key)) continue
      if (this.#said.size === MAX_SEEN) this.#said.clear()
      this.#said.add(key)
      this.#components.onNotice(
        `${asked} means this device's own model ${own.id.slice(0, 12)}; another model has that name, too: ` +
          `${withHolders(other)}. Ask for that one by its id`
      )
    }
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
    const { ownLoads } = this.#components
    // At once: its model is being placed meanwhile.
    ownLoads.tokenizerBegins(id, manifest.files['tokenizer.json']?.bytes ?? 0)
    let startCpuMs: number | undefined
    try {
      const tokenizer = await this.#startTokenizer(name, id, manifest, signal)
      startCpuMs = tokenizer.startCpuMs
      return tokenizer
    } finally {
      ownLoads.tokenizerEnds(id, startCpuMs)
    }
  }

  async #startTokenizer(
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
    const files = await sideFilesOf(store, { name, id, manifest })
    return await tokenizerOf(files, manifest, () => this.mayRest(id))
  }
}

/** `2f1c90aa41be on desktop, laptop`. */
function withHolders({ id, holders }: KnownModel): string {
  return `${id.slice(0, 12)} on ${holders.map(({ name }) => name).join(', ')}`
}
