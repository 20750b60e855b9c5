import type { Manifest, Quantization } from '../../models/manifest.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { messageOf } from '../../protocols/text.ts'
import { PROFILE_AGAIN_MS } from '../constants.ts'
import { delay } from '../delay.ts'
import type { Mesh } from '../mesh/index.ts'
import type { Sessions } from '../stage/sessions.ts'
import { faster } from './faster.ts'

export interface ProfilerComponents {
  runtime: Pick<Runtime, 'profile'>
  store: Pick<ModelStore, 'held'>
  /** What is measured is told to the peers. */
  mesh: Pick<Mesh, 'self' | 'update'>
  sessions: Pick<Sessions, 'open'>
}

/** Models that are timed before anybody asks for them. */
const MAX_TIMED_AT_START = 16

interface TimedModel {
  id: string
  manifest: Manifest
}

/** Times the layers of this device's models, so that it and its peers can plan with it. */
export class Profiler {
  readonly #components: ProfilerComponents
  #running: Promise<void> = Promise.resolve()

  constructor(components: ProfilerComponents) {
    this.#components = components
  }

  /**
   * Times the models that are held here, and once more when the start is over; prompts need not wait for it.
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
    const { mesh } = this.#components
    for (const model of await this.#timed()) {
      if (signal.aborted) return
      if (!mesh.self.models.some(({ id }) => id === model.id)) continue
      await this.time(model).catch(error => {
        if (!signal.aborted) onNotice(`timing a model failed: ${messageOf(error)}`)
      })
    }
    await delay(PROFILE_AGAIN_MS, signal, { ref: false })
    await this.#again(signal)
  }

  /** Times a model's layers unless that is done; one model at a time, as they would slow each other. */
  async time({ id, manifest }: TimedModel): Promise<void> {
    const { mesh, runtime } = this.#components
    if (mesh.self.profiles[id] !== undefined) return
    const timed = this.#running.then(async () => {
      if (mesh.self.profiles[id] !== undefined) return
      const profile = await runtime.profile(manifest.shape, quantizationOf(manifest))
      mesh.update({ profiles: { ...mesh.self.profiles, [id]: profile } })
    })
    // The caller that wants this model's times hears of it below; the next model is timed all the same.
    this.#running = timed.catch(() => {})
    await timed
  }

  /** The user's own models first, then some of the cache: sources may have filled it. */
  async #timed(): Promise<TimedModel[]> {
    return (await this.#components.store.held()).reverse().slice(0, MAX_TIMED_AT_START)
  }

  /** A node's start disturbs the first timing. Not while answers run: these teach the cost model by themselves. */
  async #again(signal: AbortSignal): Promise<void> {
    const { mesh, runtime, sessions } = this.#components
    for (const { id, manifest } of await this.#timed()) {
      const before = mesh.self.profiles[id]
      if (before === undefined || sessions.open > 0 || signal.aborted) continue
      const again = await runtime.profile(manifest.shape, quantizationOf(manifest), { signal })
      mesh.update({ profiles: { ...mesh.self.profiles, [id]: faster(before, again) } })
    }
  }
}

function quantizationOf(manifest: Manifest): Quantization | undefined {
  return manifest.layers[1]?.tensors.find(tensor => tensor.quantization)?.quantization
}
