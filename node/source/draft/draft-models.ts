import { guessingManifest, joinsStates } from '../../../models/guessing.ts'
import type { LayerRange } from '../../../models/layers.ts'
import { logger } from '../../../models/log.ts'
import { type Manifest, modelId, serializeManifest } from '../../../models/manifest.ts'
import { hasState } from '../../../models/recurrence.ts'
import { leaseBytes, weightBytes } from '../../../models/runtime/memory.ts'
import type { ShardBatch } from '../../../models/runtime/runtime.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import type { ModelStore, StoredModel } from '../../../models/store/store.ts'
import { vocabularyId } from '../../../models/tokenizer/vocabulary-id.ts'
import { messageOf } from '../../../protocols/text.ts'
import { LEASE_RENEW_MS } from '../../constants.ts'
import { FOREVER_MS } from '../../duration.ts'
import { RequestError } from '../../errors.ts'
import type { Lease } from '../../stage/lease-table.ts'
import type { StageRoom } from '../../stage/room.ts'
import type { ShardHandle } from '../../stage/shard-pool.ts'
import { sideFilesOf } from '../placement/model-tokenizer.ts'
import type { Draft } from './draft.ts'
import { GuessingDraft } from './guessing-draft.ts'
import { LateDraft } from './late-draft.ts'
import { ModelDraft } from './model-draft.ts'

const log = logger('edgeshard:source')

/** A model that nobody has named drafts for one of at least so many times its weights: else it is hardly faster. */
const LEAST_TIMES_SMALLER = 4
/** A KV cache is reserved for so many tokens, or a multiple of it, so that the next answer finds it again. */
const ROOM_STEP_TOKENS = 1024
/** A longer conversation is drafted for until it has so many: a KV cache for a whole context may take more than the weights. */
const MAX_ROOM_TOKENS = 8192

const MAX_SAID = 64
/**
 * A guess is the likeliest token, whatever the answer's temperature: over answers of the bundled model at 0.8 it was right more
 * often than one that its draft drew with the answer's seed, 79 against 76 % (1,755 tokens), and at 1.4 52 against 42 %.
 */
const LIKELIEST: Sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }

/** The model that a prompt is answered with. */
export interface Target {
  id: string
  name: string
  manifest: Manifest
}

export interface DraftModelsComponents {
  peerId: string
  store: Pick<ModelStore, 'list' | 'heldLayers' | 'readSideFile'>
  room: StageRoom
}

export interface DraftModelsInit {
  /** Name or id of the model that drafts, where a request names none. @default the one that is found by its vocabulary */
  named?: string | undefined
  /** How long a draft's weights stay loaded behind its last answer. @default for as long as nobody else needs the memory */
  keepAliveMs?: number
  /** One line for people where the model that this node was started with cannot draft for another one. */
  onNotice?: (message: string) => void
}

export interface OpenDraft {
  draft: Draft
  /** Resolves when the model is loaded, or cannot be. */
  loaded: Promise<void>
  /** Ends the drafting; the weights stay loaded for the next answer. A load that is under way is not waited for. */
  close(): Promise<void>
}

/** A lease on a draft's model, and its shard, which may be loading: of one answer, or kept for the next one. */
interface Held {
  model: StoredModel
  maxTokens: number
  lease: Lease
  shard: Promise<ShardHandle>
  /** Ends what an answer does with it, once. */
  stop: (() => Promise<void>) | undefined
  timer: NodeJS.Timeout | undefined
}

/**
 * The models on this device that draft for larger ones of the same vocabulary. A draft is computed here alone, all of it,
 * under leases of this device's own. So a plan gives this device fewer layers; but a draft never takes memory that somebody
 * holds, and gives its own to whoever cannot do without: then the drafting ends, and no answer fails for it.
 */
export class DraftModels {
  readonly #components: DraftModelsComponents
  readonly #init: DraftModelsInit
  readonly #held = new Set<Held>()
  /** What was read of each tokenizer.json, by its SHA-256. */
  readonly #vocabularies = new Map<string, Promise<string>>()
  /** What was said of the model that this node was started with. */
  readonly #said = new Set<string>()
  readonly #renewing: NodeJS.Timeout
  readonly #closing = new AbortController()

  constructor(components: DraftModelsComponents, init: DraftModelsInit = {}) {
    this.#components = components
    this.#init = init
    const { leases } = components.room
    leases.events.on('evict', this.#onEvict)
    this.#renewing = setInterval(() => {
      for (const held of this.#held) {
        // Over where this process stood still for longer than its term: the memory is others' then.
        if (!leases.renew(held.lease.id)) void this.#letGo(held)
      }
    }, LEASE_RENEW_MS).unref()
  }

  /**
   * The model that drafts for `target`: the one that is named, else the one that this node was started with, else the
   * smallest of this device's own models that has its vocabulary and is far smaller. Undefined where there is none.
   *
   * @param named what the request names
   * @throws {RequestError} where that one is not here, not whole, or of another vocabulary
   */
  async find(target: Target, named?: string): Promise<StoredModel | undefined> {
    const models = await this.#components.store.list()
    if (named !== undefined) return await this.#named(models, target, named)
    if (this.#init.named !== undefined) {
      try {
        return await this.#named(models, target, this.#init.named)
      } catch (error) {
        // Requests for other models are not to fail for it.
        this.#say(messageOf(error))
      }
    }
    const most = weightBytes(target.manifest) / LEAST_TIMES_SMALLER
    const smaller = models
      .filter(({ manifest }) => weightBytes(manifest) <= most && !hasState(manifest.shape))
      .sort((a, b) => weightBytes(a.manifest) - weightBytes(b.manifest))
    for (const model of smaller) {
      if ((await this.#isWhole(model)) && (await this.#shareVocabulary(model, target))) return model
    }
    return undefined
  }

  /**
   * The layer that `target` came with and that guesses a further token, as a model of its own with embedding and head.
   *
   * @throws {RequestError} where it came without one, or not all of these are here
   */
  async guessing({ name, manifest }: Target): Promise<StoredModel> {
    const own = guessingManifest(manifest)
    if (own === undefined) {
      throw new RequestError(
        `${name} has no layer that guesses further tokens: import a checkpoint with such a layer with --mtp`,
        'speculate'
      )
    }
    const model = { name, id: modelId(serializeManifest(own)), manifest: own }
    if (await this.#isWhole(model)) return model
    throw new RequestError(
      `the layer of ${name} that guesses further tokens, its embedding or its head is not on this device: import ${name} here`,
      'speculate'
    )
  }

  /**
   * A draft by `model`, with a KV cache for one answer. Its memory is leased when this resolves, so that a plan counts on what
   * is left; its weights are loaded behind that where they are not. Undefined where the memory is held by others.
   *
   * @param maxTokens of prompt and answer; a model with a shorter context drafts until it is full
   * @param prompt what it can feed before something is to be proposed
   */
  async open(
    model: StoredModel,
    target: Target,
    { maxTokens, prompt, requestId }: { maxTokens: number; prompt?: readonly number[]; requestId?: string }
  ): Promise<OpenDraft | undefined> {
    const fields = { draft: model.name, model: target.name }
    const held = await this.#take(model, maxTokens)
    if (held === undefined) {
      log.of(requestId).info('nobody drafts: the memory for it is in use', fields)
      return undefined
    }
    log.of(requestId).debug('a model drafts', fields)
    return this.#openOn(held, target, { prompt, requestId })
  }

  /** Ends all drafting and frees the models. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the node stops'))
    clearInterval(this.#renewing)
    this.#components.room.leases.events.off('evict', this.#onEvict)
    await Promise.all([...this.#held].map(held => this.#letGo(held)))
  }

  async #named(models: readonly StoredModel[], target: Target, named: string): Promise<StoredModel> {
    const model = models.find(({ name, id }) => name === named || id === named)
    if (model === undefined) throw refused(named, `this device has no model of that name`)
    if (model.id === target.id) throw refused(named, 'it is the model that it is to draft for')
    if (hasState(model.manifest.shape)) {
      throw refused(named, 'its layers have states, which cannot be taken back when a guess is wrong')
    }
    if (!(await this.#isWhole(model))) throw refused(named, 'not all of its layers are on this device')
    if (!(await this.#shareVocabulary(model, target))) {
      throw refused(named, `its vocabulary is not that of ${target.name}`)
    }
    return model
  }

  #say(message: string): void {
    if (this.#said.has(message)) return
    if (this.#said.size === MAX_SAID) this.#said.clear()
    this.#said.add(message)
    this.#init.onNotice?.(message)
  }

  /** One that is kept and has the room, else a new lease on what nobody holds. */
  async #take(model: StoredModel, maxTokens: number): Promise<Held | undefined> {
    const { peerId, room } = this.#components
    const { leases, shards } = room
    const { manifest, id: modelId } = model
    const steps = Math.ceil(maxTokens / ROOM_STEP_TOKENS)
    const roomTokens = Math.min(manifest.shape.contextLength, steps * ROOM_STEP_TOKENS, MAX_ROOM_TOKENS)
    for (const held of this.#held) {
      // One that is being opened is no longer idle, and one that leaves is no longer held.
      if (held.lease.idleSince === undefined || held.model.id !== modelId) continue
      if (held.maxTokens >= roomTokens) {
        clearTimeout(held.timer)
        leases.setIdle(held.lease.id, false)
        return held
      }
      await this.#letGo(held)
    }
    const range: LayerRange = [0, manifest.layers.length]
    const bytes = leaseBytes(manifest, range, { slots: 1, maxTokens: roomTokens, keepsAll: true })
    if (this.#closing.signal.aborted || bytes.weightBytes + bytes.ownBytes > leases.unheldBytes)
      return undefined
    const [lease] = leases.reserve([{ source: peerId, modelId, range, yields: true, ...bytes }]) ?? []
    if (lease === undefined) return undefined
    // Of an answer that ends before: the next one finds it.
    const shard = shards.acquire(modelId, manifest, range, { signal: this.#closing.signal })
    const held: Held = { model, maxTokens: roomTokens, lease, shard, stop: undefined, timer: undefined }
    this.#held.add(held)
    return held
  }

  #openOn(
    held: Held,
    target: Target,
    { prompt, requestId }: { prompt: readonly number[] | undefined; requestId: string | undefined }
  ): OpenDraft {
    const { leases } = this.#components.room
    let ended = false
    const opening = this.#session(held, target, requestId).catch(error => {
      log.of(requestId).passOver('nobody drafts: its model cannot be loaded')(error)
      void this.#letGo(held)
      return undefined
    })
    const making = opening.then(opened => {
      if (opened !== undefined && prompt !== undefined && !ended) void opened.draft.propose(prompt, 0)
      return opened?.draft
    })
    let isLoaded = false
    const loaded = making.then(() => {
      isLoaded = true
    })
    let stopping: Promise<void> | undefined
    const stop = () => {
      ended = true
      stopping ??= opening.then(async opened => {
        await opened?.draft.end()
        await opened?.batch.close()
      })
      return stopping
    }
    held.stop = stop
    const close = async () => {
      const closing = stop().then(() => {
        // Whoever took the memory has ended it.
        if (!this.#held.has(held)) return
        held.stop = undefined
        leases.setIdle(held.lease.id, true)
        this.#keep(held)
      })
      if (isLoaded) await closing
    }
    const sees = joinsStates(held.model.manifest.shape)
    return { draft: new LateDraft(making, { sees }), loaded, close }
  }

  async #session(
    { model, maxTokens, shard }: Held,
    target: Target,
    requestId: string | undefined
  ): Promise<{ draft: ModelDraft | GuessingDraft; batch: ShardBatch }> {
    const batch = await (await shard).shard.openBatch({ slots: 1, maxTokens })
    const { shape } = model.manifest
    if (joinsStates(shape)) {
      const session = await batch.open({ sampling: LIKELIEST, states: true })
      const { hiddenSize } = shape
      return { draft: new GuessingDraft({ session, maxTokens, hiddenSize, requestId }), batch }
    }
    const session = await batch.open({ sampling: LIKELIEST })
    const vocabSize = Math.min(model.manifest.shape.vocabSize, target.manifest.shape.vocabSize)
    return { draft: new ModelDraft({ session, maxTokens, vocabSize, requestId }), batch }
  }

  /** For the next answer: one of each model, for so long. */
  #keep(held: Held): void {
    const { keepAliveMs = FOREVER_MS } = this.#init
    const others = [...this.#held].filter(
      other => other !== held && other.model.id === held.model.id && other.stop === undefined
    )
    const letGo = () => void this.#letGo(held)
    if (keepAliveMs === 0 || others.length > 0) letGo()
    else if (keepAliveMs !== FOREVER_MS) held.timer = setTimeout(letGo, keepAliveMs).unref()
  }

  readonly #onEvict = ({ id }: Lease): void => {
    for (const held of this.#held) {
      if (held.lease.id === id) void this.#letGo(held)
    }
  }

  /** Its memory counts as on its way out until the step under way has ended and the weights are released. */
  async #letGo(held: Held): Promise<void> {
    const { leases, shards } = this.#components.room
    if (!this.#held.delete(held)) return
    clearTimeout(held.timer)
    const leaving = (async () => {
      await held.stop?.()
      await (await held.shard).release()
    })()
    shards.leaves(leaving)
    leases.release(held.lease.id)
    await leaving.catch(log.passOver('freeing a draft failed; its worker holds nothing any more'))
  }

  async #isWhole({ manifest }: StoredModel): Promise<boolean> {
    const [range] = await this.#components.store.heldLayers(manifest)
    return range !== undefined && range[0] === 0 && range[1] === manifest.layers.length
  }

  async #shareVocabulary(model: StoredModel, target: Target): Promise<boolean> {
    const [one, other] = [model.manifest, target.manifest].map(({ files }) => files['tokenizer.json']?.sha256)
    if (one === undefined || other === undefined) return false
    return one === other || (await this.#vocabulary(model)) === (await this.#vocabulary(target))
  }

  /** Its id; the tokenizer's own where it cannot be read: no other one is equal to it. */
  #vocabulary(model: Target): Promise<string> {
    const { sha256 } = model.manifest.files['tokenizer.json']!
    let known = this.#vocabularies.get(sha256)
    known ??= sideFilesOf(this.#components.store, model)
      .then(vocabularyId)
      .catch(error => {
        log.passOver('a vocabulary cannot be read: its model takes part in no drafting')(error)
        return sha256
      })
    this.#vocabularies.set(sha256, known)
    return known
  }
}

function refused(named: string, why: string): RequestError {
  return new RequestError(`${named} cannot draft: ${why}`, 'draft')
}
