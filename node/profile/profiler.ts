import { logger } from '../../models/log.ts'
import type { Manifest, Quantization } from '../../models/manifest.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { timingBytes } from '../../models/runtime/timing-bytes.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { messageOf } from '../../protocols/text.ts'
import type { LayerProfile, StageTimes } from '../api.ts'
import {
  PROFILE_AGAIN_MS,
  PROFILE_CHECK_MS,
  PROFILE_DOUBT_MS,
  PROFILE_QUIET_MS,
  PROFILE_TERM_MS
} from '../constants.ts'
import { delay } from '../delay.ts'
import type { Mesh } from '../mesh/index.ts'
import { faster } from './faster.ts'
import type { ProfileFiles } from './profile-files.ts'
import type { ProfileSubject } from './profile-key.ts'
import { TimingTurns } from './timing-turns.ts'

const log = logger('edgeshard:plan')

export interface ProfilerComponents {
  runtime: Pick<Runtime, 'profile'>
  /** Times what stages take here beside their layers; absent where another one does. */
  timeStage?: (options: { signal: AbortSignal }) => Promise<StageTimes>
  store: Pick<ModelStore, 'held'>
  /** What is measured is told to the peers. */
  mesh: Pick<Mesh, 'self' | 'update'>
  files: Pick<ProfileFiles, 'read' | 'write'>
  /** Threads that compute. */
  threads: number
  /** Shared with who times another processor of this device. @default of its own */
  turns?: TimingTurns | undefined
  /** Answers are generated here, or layers loaded: timing would slow them, and they the timing. */
  isBusy: () => boolean
  /** Memory that nobody has leased. */
  freeBytes: () => number
  /** Answers took so much longer or shorter than the profile says that it cannot be right. */
  isDoubted: (modelId: string) => boolean
}

/** Timings of what stages take, as many as of layers: at a node's start, which disturbs, and after it. */
const STAGE_TIMINGS = 2
/** Models that are timed before anybody asks for them. */
const MAX_TIMED_AT_START = 16

interface TimedModel {
  id: string
  manifest: Manifest
}

/** How old times are, and how far to be trusted. */
interface Origin {
  measuredAtMs: number
  /** Right behind the start of the node, which disturbs, or in a hurry: it is timed once more. */
  passing: boolean
}

/** How often work is looked for that has to go before the timing. */
const WATCH_MS = 20

/** Times the layers of this device's models, so that it and its peers can plan with it, and remembers the times. */
export class Profiler {
  readonly #components: ProfilerComponents
  readonly #origins = new Map<string, Origin>()
  readonly #failed = new Set<string>()
  readonly #turns: TimingTurns
  /** What stages take beside their layers is timed at the start, and once more after it. */
  #stageTimingsLeft = STAGE_TIMINGS
  /** How often another processor has taken the place of the one before. */
  #changes = 0
  #settled = false

  constructor(components: ProfilerComponents) {
    this.#components = components
    this.#turns = components.turns ?? new TimingTurns()
  }

  /**
   * Says to the peers what earlier runs found, then times what is unknown, what is old and what answers contradict:
   * while nothing else is done here, for as long as the node runs. What was timed at the start is timed once more after
   * it.
   *
   * @param options `onNotice`: one line for people where a model cannot be timed
   */
  async start({
    signal,
    onNotice
  }: {
    signal: AbortSignal
    onNotice: (message: string) => void
  }): Promise<void> {
    for (const model of await this.#held()) await this.#recall(model)
    for (;;) {
      await this.#timeStage(signal).catch(error => {
        signal.throwIfAborted()
        this.#stageTimingsLeft = 0
        log.passOver('what stages take beside their layers was not timed; it is supposed')(error)
      })
      for (const model of await this.#held()) {
        if (!this.#hasRoom(model)) continue
        const time = (until: AbortSignal) => this.#measure(model, { signal: until, thorough: this.#settled })
        await this.#whenQuiet(() => this.#isDue(model.id), time, signal).catch(error => {
          signal.throwIfAborted()
          this.#failed.add(model.id)
          onNotice(`timing a model failed: ${messageOf(error)}`)
        })
      }
      await delay(this.#settled ? PROFILE_CHECK_MS : PROFILE_AGAIN_MS, signal, { ref: false })
      this.#settled = true
    }
  }

  /**
   * Makes sure that there are times of a model's layers, for a plan that hangs on them; one model at a time. A signal that
   * aborts ends the timing.
   */
  async time(model: TimedModel, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const { mesh } = this.#components
    if (mesh.self.profiles[model.id] !== undefined) return
    await this.#recall(model)
    await this.#turns.take(async () => {
      signal?.throwIfAborted()
      if (mesh.self.profiles[model.id] === undefined)
        await this.#measure(model, { ...(signal && { signal }) })
    })
  }

  /** Another processor computes from now on: what was said of the one before is taken back, and what is known of this one said. */
  async processorChanged(): Promise<void> {
    this.#changes++
    this.#origins.clear()
    this.#failed.clear()
    this.#stageTimingsLeft = STAGE_TIMINGS
    this.#components.mesh.update({ profiles: {}, stageTimes: undefined })
    for (const model of await this.#held()) await this.#recall(model)
  }

  /** Resolves when nothing is timed any more, or written down; for a node whose runtime has stopped. */
  async settled(): Promise<void> {
    await this.#turns.settled()
  }

  /** Models with layers here: the user's own first, then some of the cache, for sources may have filled it. */
  async #held(): Promise<(TimedModel & { name: string })[]> {
    const { store, mesh } = this.#components
    const here = (await store.held()).filter(({ id }) => mesh.self.models.some(model => model.id === id))
    return here.reverse().slice(0, MAX_TIMED_AT_START)
  }

  /** False of a model that a lease brought, of any shape that its source likes, whose timing would take leased memory. */
  #hasRoom({ id, name, manifest }: TimedModel & { name: string }): boolean {
    const isOthers = name === id
    return !isOthers || timingBytes(manifest.shape, quantizationOf(manifest)) <= this.#components.freeBytes()
  }

  async #recall(model: TimedModel): Promise<void> {
    const { mesh, files } = this.#components
    if (mesh.self.profiles[model.id] !== undefined) return
    const remembered = await files.read(this.#subject(model))
    if (remembered === undefined || mesh.self.profiles[model.id] !== undefined) return
    this.#origins.set(model.id, { measuredAtMs: remembered.measuredAtMs, passing: false })
    this.#say(model, remembered.profile)
  }

  async #timeStage(signal: AbortSignal): Promise<void> {
    const { mesh, timeStage } = this.#components
    if (timeStage === undefined) return
    const isDue = () =>
      this.#stageTimingsLeft === STAGE_TIMINGS || (this.#settled && this.#stageTimingsLeft > 0)
    await this.#whenQuiet(
      isDue,
      async until => {
        const timed = await this.#onOne(() => timeStage({ signal: until }))
        const before = mesh.self.stageTimes
        this.#stageTimingsLeft--
        // What disturbs makes them longer, as with layers.
        const ms = (which: keyof StageTimes) => {
          const [now = 0, then = now] = [timed[which], before?.[which]]
          return Math.min(now, then)
        }
        const stageTimes = rounded({
          turnMs: ms('turnMs'),
          sharedTurnMs: ms('sharedTurnMs'),
          startMs: ms('startMs'),
          ...(timed.tokenMs !== undefined && { tokenMs: ms('tokenMs') }),
          ...(timed.frameMs !== undefined && { frameMs: ms('frameMs') })
        })
        mesh.update({ stageTimes })
        log.debug('stages timed', stageTimes)
      },
      signal
    )
  }

  /** Times what is due, as soon as nothing else is done here; what begins meanwhile ends the timing. */
  async #whenQuiet(
    isDue: () => boolean,
    time: (until: AbortSignal) => Promise<void>,
    signal: AbortSignal
  ): Promise<void> {
    const { isBusy } = this.#components
    while (isDue()) {
      while (isBusy()) await delay(PROFILE_QUIET_MS, signal, { ref: false })
      const interrupted = new AbortController()
      const watch = setInterval(() => {
        if (isBusy()) interrupted.abort(new Error('other work goes first'))
      }, WATCH_MS).unref()
      try {
        const until = AbortSignal.any([signal, interrupted.signal])
        await this.#turns.take(async () => {
          until.throwIfAborted()
          if (isDue()) await time(until)
        })
      } catch (error) {
        if (!interrupted.signal.aborted) throw error
      } finally {
        clearInterval(watch)
      }
    }
  }

  #isDue(id: string): boolean {
    const { mesh, isDoubted } = this.#components
    if (this.#failed.has(id)) return false
    const origin = this.#origins.get(id)
    if (mesh.self.profiles[id] === undefined || origin === undefined) return true
    if (origin.passing) return this.#settled
    const ageMs = Date.now() - origin.measuredAtMs
    // What lies ahead was measured by a clock that was wrong.
    return ageMs < 0 || ageMs > PROFILE_TERM_MS || (ageMs > PROFILE_DOUBT_MS && isDoubted(id))
  }

  /** @param options `thorough`: nobody waits for it */
  async #measure(
    model: TimedModel,
    options: { signal?: AbortSignal; thorough?: boolean } = {}
  ): Promise<void> {
    const { runtime, files, mesh } = this.#components
    const { id, manifest } = model
    const time = () => runtime.profile(manifest.shape, quantizationOf(manifest), options)
    const measured = rounded(await this.#onOne(time))
    log.debug('layers timed', { modelId: id })
    const before = mesh.self.profiles[id]
    const again = before !== undefined && this.#origins.get(id)?.passing === true
    const profile = again ? faster(before, measured) : measured
    const measuredAtMs = Date.now()
    this.#origins.set(id, { measuredAtMs, passing: !this.#settled || options.thorough !== true })
    this.#say(model, profile)
    await files.write(this.#subject(model), { measuredAtMs, profile })
  }

  /** Times again what another processor took over meanwhile: it would be said of that one. */
  async #onOne<T>(time: () => Promise<T>): Promise<T> {
    for (;;) {
      const before = this.#changes
      const timed = await time()
      if (this.#changes === before) return timed
    }
  }

  #say({ id }: TimedModel, profile: LayerProfile): void {
    const { mesh } = this.#components
    mesh.update({ profiles: { ...mesh.self.profiles, [id]: profile } })
  }

  #subject({ manifest }: TimedModel): ProfileSubject {
    const { threads } = this.#components
    return { shape: manifest.shape, quantization: quantizationOf(manifest), threads }
  }
}

/** No timing is more exact than its first four digits, and records that travel are the shorter for it. */
function rounded<T>(times: T): T {
  const round = (_: string, value: unknown) =>
    typeof value === 'number' ? Number(value.toPrecision(4)) : value
  return JSON.parse(JSON.stringify(times, round))
}

export function quantizationOf(manifest: Manifest): Quantization | undefined {
  return manifest.layers[1]?.tensors.find(tensor => tensor.quantization)?.quantization
}
