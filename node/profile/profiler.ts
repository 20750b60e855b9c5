import { logger } from '../../models/log.ts'
import type { Manifest, Quantization } from '../../models/manifest.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { messageOf } from '../../protocols/text.ts'
import { PROFILE_AGAIN_MS } from '../constants.ts'
import { delay } from '../delay.ts'
import type { Mesh } from '../mesh/index.ts'
import type { Sessions } from '../stage/sessions.ts'
import { faster } from './faster.ts'

const log = logger('edgeshard:plan')

export interface ProfilerComponents {
  runtime: Pick<Runtime, 'profile'>
  store: Pick<ModelStore, 'list'>
  /** What is measured is told to the peers. */
  mesh: Pick<Mesh, 'self' | 'update'>
  sessions: Pick<Sessions, 'open'>
}

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
    const { store, mesh } = this.#components
    for (const model of await store.list()) {
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
      log.debug('layers timed', { modelId: id })
      mesh.update({ profiles: { ...mesh.self.profiles, [id]: profile } })
    })
    // The caller that wants this model's times hears of it below; the next model is timed all the same.
    this.#running = timed.catch(() => {})
    await timed
  }

  /** A node's start disturbs the first timing. Not while answers run: these teach the cost model by themselves. */
  async #again(signal: AbortSignal): Promise<void> {
    const { mesh, runtime, store, sessions } = this.#components
    for (const { id, manifest } of await store.list()) {
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
