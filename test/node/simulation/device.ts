import type { LayerRange } from '../../../models/layers.ts'
import { type BlobRef, type Manifest, modelId, parseManifest } from '../../../models/manifest.ts'
import { hasState } from '../../../models/recurrence.ts'
import { decodeByStep } from '../../../models/runtime/decode.ts'
import { NotFiniteError, RuntimeStoppedError, SessionClosedError } from '../../../models/runtime/errors.ts'
import { allocateHidden } from '../../../models/runtime/hidden.ts'
import { keptPlace } from '../../../models/runtime/kept-states.ts'
import { Pool } from '../../../models/runtime/pooling.ts'
import type { ReplyHistory } from '../../../models/runtime/reply-history.ts'
import type {
  DecodeInput,
  DecodeOutput,
  ForwardInput,
  ForwardOutput,
  HiddenStates,
  OpenSlotOptions,
  RaggedOutput,
  RaggedStep,
  SampledToken,
  Shard,
  ShardBatch,
  ShardSession,
  ShardSpec
} from '../../../models/runtime/runtime.ts'
import { historyFor, type Sampling, sampleToken, uniform } from '../../../models/runtime/sampler.ts'
import type { SavedTokens } from '../../../models/runtime/saved-tokens.ts'
import type { Claims, ModelStore } from '../../../models/store/store.ts'
import { sleep } from './clock.ts'

/** How fast a device is, and what it does wrong. */
export interface DeviceSpeed {
  /** Time of a step, however many tokens it has. */
  stepMs: number
  loadMs: number
}

const CRASHED = 'the process of the GPU ended: SIGKILL'

/** More than the logits here can come to. */
const LOG_SUM = 20

/**
 * A runtime whose model is arithmetic: every value that a range computes depends on all that its KV cache holds, so a
 * token is only right where every stage's cache is.
 */
export class SimulatedRuntime {
  readonly speed: DeviceSpeed
  loads: LayerRange[] = []
  /** How sessions were to draw, by their stage's layers. */
  opened: { range: LayerRange; sampling: Sampling | undefined }[] = []
  /** Loaded now. */
  shards = 0
  /** KV caches that are allocated now. */
  batches = 0
  /** Set to make loads, or allocations, or steps fail. */
  failing: { load?: Error; batch?: Error; step?: Error } = {}
  /** Values that come out are no numbers. */
  damaged = false
  /** Whether what KV caches hold can be taken out of them, which a GPU's cannot. */
  letsOut = true
  /** What is drawn in the place of a token. */
  draws = (id: number): number => id

  readonly #loaded = new Set<(ended: Error) => void>()
  /** Counts crashes: batches of before are lost. */
  epoch = 0

  constructor(speed: Partial<DeviceSpeed> = {}) {
    this.speed = { stepMs: 2, loadMs: 50, ...speed }
  }

  async load(
    { manifest, range }: ShardSpec,
    { onProgress }: { onProgress?: (fraction: number) => void } = {}
  ): Promise<Shard> {
    this.loads.push(range)
    onProgress?.(0.5)
    await sleep(this.speed.loadMs)
    if (this.failing.load) throw this.failing.load
    this.shards++
    const ended = Promise.withResolvers<Error>()
    this.#loaded.add(ended.resolve)
    return {
      manifest,
      range,
      ended: ended.promise,
      open: () => Promise.reject(new Error('stages open batches only')),
      openBatch: async ({ slots }) => {
        if (this.failing.batch) throw this.failing.batch
        this.batches++
        return new SimulatedBatch(this, manifest, range, slots)
      },
      release: async () => {
        if (this.#loaded.delete(ended.resolve)) this.shards--
      }
    }
  }

  /** What computes here ends, as a GPU's driver may: all that is loaded is lost, and loads anew. */
  crash(): void {
    this.epoch++
    for (const tell of this.#loaded) tell(new RuntimeStoppedError(CRASHED))
    this.shards -= this.#loaded.size
    this.#loaded.clear()
  }
}

/** Of how many tokens a slot has a state beside the one that steps change. */
class SimulatedStates {
  readonly #kept: (number | undefined)[] = []
  #afterSeveral = false

  takeBack(tokens: number, live: number): void {
    if (tokens === live) return
    if (tokens !== 0 && !this.#kept.includes(tokens)) throw new Error(`no state of ${tokens} tokens is kept`)
    this.#kept.forEach((length, place) => {
      if (length !== undefined && length > tokens) this.#kept[place] = undefined
    })
    this.#afterSeveral = false
  }

  begin(position: number, tokens: number): void {
    const place = keptPlace(tokens, this.#afterSeveral)
    if (place !== undefined && position > 0) this.#kept[place] = position
    this.#afterSeveral = tokens > 1
  }
}

class SimulatedBatch implements ShardBatch {
  readonly #runtime: SimulatedRuntime
  readonly #manifest: Manifest
  readonly #range: LayerRange
  readonly #epoch: number
  /** What each slot's KV cache holds, of every layer. */
  readonly #caches: number[][][]
  readonly #slots = new Map<ShardSession, number>()
  /** Of a model with states, of how many tokens each slot has one beside the last, by the rule of real ones. */
  readonly #kept: SimulatedStates[] | undefined
  /** How each slot's session draws. */
  readonly #drawing = new Map<number, { sampling: Sampling; reply: ReplyHistory | undefined }>()

  constructor(runtime: SimulatedRuntime, manifest: Manifest, range: LayerRange, slots: number) {
    this.#runtime = runtime
    this.#manifest = manifest
    this.#range = range
    this.#epoch = runtime.epoch
    this.#caches = Array.from({ length: slots }, () => Array.from({ length: range[1] - range[0] }, () => []))
    if (hasState(manifest.shape)) this.#kept = this.#caches.map(() => new SimulatedStates())
  }

  async open({
    slot = 0,
    keepTokens = 0,
    copyFrom = slot,
    restore,
    saveTokens,
    exact = false,
    sampling,
    pooling
  }: OpenSlotOptions = {}): Promise<ShardSession> {
    if ([...this.#slots.values()].includes(slot)) throw new Error(`slot ${slot} is taken`)
    const saved = saveTokens === undefined ? undefined : this.#save(slot, saveTokens)
    if (restore !== undefined) this.#restore(slot, restore)
    const held = this.#held(copyFrom)
    if (keepTokens > held) throw new Error(`slot ${copyFrom} holds ${held} tokens, not ${keepTokens}`)
    if (this.#kept !== undefined && copyFrom !== slot) throw new Error('states are not copied')
    this.#kept?.[slot]?.takeBack(keepTokens, held)
    this.#caches[slot] = this.#caches[copyFrom]!.map(cache => cache.slice(0, keepTokens))
    this.#runtime.opened.push({ range: this.#range, sampling })
    if (sampling === undefined) this.#drawing.delete(slot)
    else this.#drawing.set(slot, { sampling, reply: historyFor(sampling) })
    const pool = pooling && new Pool(pooling, this.#width)
    const session: ShardSession = {
      exact,
      saved,
      forward: step => this.#forward(session, step, pool),
      trim: async length => {
        this.#kept?.[slot]?.takeBack(length, this.#held(slot))
        this.#trim(slot, length)
      },
      close: async () => void this.#slots.delete(session)
    }
    this.#slots.set(session, slot)
    return session
  }

  decode(sessions: readonly ShardSession[], step: DecodeInput): Promise<DecodeOutput> {
    return decodeByStep(this, sessions, step)
  }

  async step(sessions: readonly ShardSession[], { parts, input }: RaggedStep): Promise<RaggedOutput> {
    await this.#work()
    if (!sessions.some(session => this.#slots.has(session)))
      throw new SessionClosedError('every session of the step was closed meanwhile')
    let row = 0
    const values = parts.map(({ position, tokens }, i) => {
      const slot = this.#slots.get(sessions[i]!)
      // It was closed meanwhile, and nobody reads what comes of it.
      if (slot === undefined) {
        row += tokens
        return new Array<number>(tokens).fill(0)
      }
      this.#kept?.[slot]?.takeBack(position, this.#held(slot))
      this.#kept?.[slot]?.begin(position, tokens)
      this.#trim(slot, Math.min(position, this.#held(slot)))
      return Array.from({ length: tokens }, (_, j) =>
        this.#feed(slot, position + j, valueAt(input, row++, this.#width))
      )
    })
    const { stepMs: computeMs } = this.#runtime.speed
    if (!this.#isLast) return { kind: 'hidden', hidden: this.#hidden(values.flat()), computeMs }
    const { damaged } = this.#runtime
    const drawn = values.map((own, i) => {
      const { position, tokens, draws } = parts[i]!
      const slot = this.#slots.get(sessions[i]!)
      if (slot === undefined) return new Array<undefined>(draws).fill(undefined)
      const first = position + tokens - draws
      return own
        .slice(own.length - draws)
        .map((value, j) => (damaged ? undefined : this.#draw(slot, first + j, value)))
    })
    return { kind: 'drawn', drawn, computeMs }
  }

  async close(): Promise<void> {
    this.#runtime.batches--
  }

  async #forward(
    session: ShardSession,
    { position, input, sample }: ForwardInput,
    pool: Pool | undefined
  ): Promise<ForwardOutput> {
    await this.#work()
    const slot = this.#slots.get(session)
    if (slot === undefined) throw new SessionClosedError('the session was closed while a step ran')
    const tokens = input instanceof Int32Array ? input.length : input.tokens
    this.#kept?.[slot]?.begin(position, tokens)
    const values = Array.from({ length: tokens }, (_, i) =>
      this.#feed(slot, position + i, valueAt(input, i, this.#width))
    )
    const { stepMs: computeMs } = this.#runtime.speed
    if (!this.#isLast) return { kind: 'hidden', hidden: this.#hidden(values), computeMs }
    const pooled = pool?.rowsOf(tokens, tokens, sample).map(row => values[row]!) ?? []
    pool?.add(this.#states(pooled), tokens)
    if (!sample) return { kind: 'none', computeMs }
    if (this.#runtime.damaged) throw new NotFiniteError('the logits are not finite')
    if (pool !== undefined) return { kind: 'pooled', pooled: pool.vector()!, computeMs }
    return { kind: 'token', token: this.#draw(slot, position + tokens - 1, values.at(-1)!), computeMs }
  }

  /** What of each value two numbers of a hidden state are: all of it. */
  #states(values: readonly number[]): Float32Array {
    const states = new Float32Array(values.length * this.#width)
    values.forEach((value, i) => {
      states.set([value % 1000, Math.floor(value / 1000)], i * this.#width)
    })
    return states
  }

  async #work(): Promise<void> {
    await sleep(this.#runtime.speed.stepMs)
    if (this.#runtime.epoch !== this.#epoch) throw new RuntimeStoppedError(CRASHED)
    if (this.#runtime.failing.step) throw this.#runtime.failing.step
  }

  /** Takes out values, which are whole numbers below 2^24: single precision holds them. */
  #save(slot: number, tokens: number): SavedTokens | undefined {
    if (!this.#runtime.letsOut || this.#kept !== undefined || this.#held(slot) < tokens) return undefined
    const memories = this.#caches[slot]!.map(cache => {
      const saved = new Float32Array(new SharedArrayBuffer(4 * tokens))
      saved.set(cache.slice(0, tokens))
      return saved
    })
    return { tokens, parts: [{ firsts: [], memories }] }
  }

  #restore(slot: number, { parts }: SavedTokens): void {
    this.#caches[slot] = parts[0]!.memories.map(saved => [...saved])
  }

  #held(slot: number): number {
    return this.#caches[slot]![0]!.length
  }

  #trim(slot: number, length: number): void {
    for (const cache of this.#caches[slot]!) cache.length = length
  }

  /** Through one layer after the other: the same, wherever the model is cut. */
  #feed(slot: number, position: number, input: number): number {
    const held = this.#held(slot)
    if (position !== held) throw new Error(`slot ${slot} holds ${held} tokens, not ${position}`)
    return this.#caches[slot]!.reduce((value, cache) => {
      cache.push(value)
      return cache.reduce((hash, cached) => (hash * 31 + cached + 1) % 1_000_003, 7)
    }, input)
  }

  #hidden(values: readonly number[]): HiddenStates {
    const hidden = allocateHidden(values.length, this.#width)
    values.forEach((value, i) => {
      hidden.data[i * this.#width] = this.#runtime.damaged ? Number.NaN : value
    })
    return hidden
  }

  /** The likeliest token, or as the real sampler draws it where more than that is asked for. */
  #draw(slot: number, position: number, value: number): SampledToken {
    const { vocabSize } = this.#manifest.shape
    const { sampling, reply } = this.#drawing.get(slot)!
    const best = value % vocabSize
    if (sampling.temperature === 0 && reply === undefined)
      return { id: this.#runtime.draws(best), logprob: 0, top: [] }
    const logits = Float32Array.from({ length: vocabSize }, (_, id) => 4 * uniform(value, id))
    logits[best] = 4
    return sampleToken(logits, LOG_SUM, sampling, position, { reply })
  }

  get #width(): number {
    return this.#manifest.shape.hiddenSize
  }

  get #isLast(): boolean {
    return this.#range[1] === this.#manifest.layers.length
  }
}

function valueAt(input: Int32Array | HiddenStates, row: number, width: number): number {
  return input instanceof Int32Array ? input[row]! : input.data[row * width]!
}

const parsed = new WeakMap<Uint8Array, Manifest>()

/** A model's manifest, parsed once: devices that say what they have are asked for it at every step. */
export function manifestIn(bytes: Uint8Array): Manifest {
  const manifest = parsed.get(bytes) ?? parseManifest(bytes)
  parsed.set(bytes, manifest)
  return manifest
}

/** A store in memory. Files have no bytes: what counts is which of them are there. */
export class SimulatedStore
  implements
    Pick<
      ModelStore,
      | 'list'
      | 'held'
      | 'cached'
      | 'cache'
      | 'claim'
      | 'uncache'
      | 'heldLayers'
      | 'freeBytes'
      | 'intact'
      | 'has'
      | 'putBlob'
      | 'requireSpace'
    >
{
  /** The user's own, by id. */
  readonly models = new Map<string, { name: string; bytes: Uint8Array }>()
  readonly brought = new Map<string, { called: string; claims: Claims; bytes: Uint8Array }>()
  readonly files = new Set<string>()
  /** Bytes that the disk has for what is brought. */
  diskBytes = 2 ** 40
  full = false

  hold(name: string, bytes: Uint8Array): void {
    this.models.set(modelId(bytes), { name, bytes })
    for (const { sha256 } of manifestIn(bytes).layers) this.files.add(sha256)
  }

  async list() {
    return [...this.models].map(([id, { name, bytes }]) => ({ id, name, manifest: manifestIn(bytes) }))
  }

  async cached() {
    return [...this.brought].map(([id, { bytes, ...said }]) => ({
      id,
      name: id,
      ...said,
      manifest: manifestIn(bytes)
    }))
  }

  async held() {
    return [...(await this.cached()), ...(await this.list())]
  }

  /** The layers of a manifest that are here, as one range each. */
  layersOf({ layers }: Manifest): LayerRange[] {
    return layers.flatMap(({ sha256 }, i) => (this.files.has(sha256) ? [[i, i + 1] as LayerRange] : []))
  }

  async heldLayers(manifest: Manifest): Promise<LayerRange[]> {
    return this.layersOf(manifest)
  }

  async cache(bytes: Uint8Array, said: { called: string; claims: Claims }): Promise<string> {
    this.brought.set(modelId(bytes), { ...said, bytes })
    return modelId(bytes)
  }

  async claim(id: string, claims: Claims): Promise<void> {
    const model = this.brought.get(id)
    if (model !== undefined) this.brought.set(id, { ...model, claims })
  }

  async uncache(ids: readonly string[]): Promise<number> {
    for (const id of ids) this.brought.delete(id)
    const used = new Set(
      (await this.held()).flatMap(({ manifest }) => manifest.layers.map(file => file.sha256))
    )
    for (const file of this.files) if (!used.has(file)) this.files.delete(file)
    return 0
  }

  async freeBytes(): Promise<number> {
    const models = await this.cached()
    const files = models.flatMap(({ manifest }) =>
      manifest.layers.filter(({ sha256 }) => this.files.has(sha256))
    )
    return this.diskBytes - files.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  async intact({ sha256 }: BlobRef): Promise<boolean> {
    return this.files.has(sha256)
  }

  async has({ sha256 }: BlobRef): Promise<boolean> {
    return this.files.has(sha256)
  }

  async putBlob({ sha256 }: BlobRef, bytes: AsyncIterable<Uint8Array>): Promise<void> {
    for await (const _ of bytes);
    this.files.add(sha256)
  }

  async requireSpace(): Promise<void> {
    if (this.full) throw new Error('the disk is full')
  }
}
