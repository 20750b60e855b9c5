/**
 * Whether this device's stages are computed on its CPU or its GPU: what is asked for, what was measured, and what a driver
 * has done before.
 */
import { logger } from '../../models/log.ts'
import { GpuRuntime } from '../../models/runtime/gpu-runtime.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import type { ModelStore, StoredModel } from '../../models/store/store.ts'
import { quantizationOf } from '../profile/profiler.ts'
import type { DeviceChoice } from './choices.ts'
import { GpuFile, type GpuState } from './gpu-file.ts'
import { GpuGuard } from './gpu-guard.ts'
import { type GpuPresence, gpuPresence } from './gpu-presence.ts'
import { GpuRefusals } from './gpu-refusals.ts'
import { gpuStageBytes } from './memories.ts'
import { probeKey } from './probe-key.ts'
import { SaidProcessors } from './said-processors.ts'
import { StageRuntime } from './stage-runtime.ts'

export type { DeviceChoice } from './choices.ts'

const log = logger('edgeshard:node')

/** A GPU that says nothing for so long, while it is asked for something, hangs. Shaders are compiled in it, too. */
export const GPU_SILENCE_MS = 120_000
const NOTHING_KNOWN: GpuState = { crashes: [], refusals: [] }

export interface ProcessorsInit {
  home: string
  choice: DeviceChoice
  cpu: Pick<Runtime, 'load' | 'profile'>
  /** Threads that the CPU computes with. */
  threads: number
  now: () => number
  /** One line for people. */
  onNotice: (message: string) => void
}

/** What computes this device's stages, and why. */
export class Processors {
  readonly #init: ProcessorsInit
  readonly #presence: GpuPresence
  readonly #file: GpuFile
  readonly #state: GpuState
  readonly #gpu: GpuRuntime | undefined
  readonly #guard: GpuGuard
  readonly #reason: string
  #trying: Promise<unknown> = Promise.resolve()
  /** Loads stages where they are to be. */
  readonly runtime: StageRuntime

  private constructor(init: ProcessorsInit, presence: GpuPresence, file: GpuFile, state: GpuState) {
    this.#init = init
    this.#presence = presence
    this.#file = file
    this.#state = state
    const { use, reason } = chosen(init.choice, presence, state)
    this.#reason = reason
    const { now, onNotice, cpu } = init
    const driver = presence.possible ? presence.driver : ''
    // At once, not at the next load: leases are granted and plans made by what the memory and the times of the one in use are.
    const onRested = () => this.runtime.note()
    const guard = new GpuGuard({ file, driver, crashes: state.crashes, now, onNotice, onRested })
    this.#guard = guard
    const onCrash = (reason: string) => {
      guard.crashed(reason)
      this.runtime.note()
    }
    this.#gpu = use === 'gpu' ? new GpuRuntime({ silenceMs: GPU_SILENCE_MS, onCrash }) : undefined
    const { refusals: known } = state
    const refusals = new GpuRefusals({ file, driver, threads: init.threads, refusals: known, onNotice })
    this.runtime = new StageRuntime(cpu, this.#gpu && { runtime: this.#gpu, guard, refusals })
    this.runtime.events.on('notice', onNotice)
  }

  /** Reads what is known; neither driver nor GPU is started. */
  static async open(init: ProcessorsInit): Promise<Processors> {
    const file = new GpuFile(init.home)
    const presence: GpuPresence =
      init.choice === 'cpu' ? { possible: false, reason: 'the CPU was asked for' } : await gpuPresence()
    const state = presence.possible ? await file.read(presence.driver) : NOTHING_KNOWN
    const processors = new Processors(init, presence, file, state)
    if (init.choice === 'gpu' && !presence.possible) {
      const { reason, advice } = presence
      const then = advice === undefined ? '' : `; ${advice}`
      init.onNotice(`no GPU can be used here (${reason}): layers are computed on the CPU${then}`)
    }
    if (init.choice === 'gpu' && presence.possible && processors.used.kind === 'cpu') {
      init.onNotice(`layers are computed on the CPU: ${processors.used.reason}`)
    }
    if (init.choice === 'auto') {
      const { kind, reason } = processors.used
      init.onNotice(`layers are computed on the ${kind.toUpperCase()}: ${reason}`)
    }
    return processors
  }

  /** What the next stage is loaded on, and why. */
  get used(): { kind: 'cpu' | 'gpu'; reason: string } {
    return { reason: this.#reason, ...this.runtime.processor }
  }

  /** What is known of the GPU, in a line; undefined on a device that computes on its CPU. */
  get driver(): string | undefined {
    return this.#gpu !== undefined && this.#presence.possible ? this.#presence.driver : undefined
  }

  /** What the record says of it; undefined on a device that computes on its CPU, which the record names anyway. */
  said(cpu: string): SaidProcessors | undefined {
    const { driver, runtime } = this
    const keepsBits = this.#state.probe?.keepsBits
    return driver === undefined ? undefined : new SaidProcessors({ runtime, cpu, driver, keepsBits })
  }

  /** The process that computes on the GPU, while one runs. */
  get pid(): number | undefined {
    return this.#gpu?.pid
  }

  /** What stages may take of the GPU's memory, where that is known. */
  get gpuBytes(): number | undefined {
    const bytes = this.#gpu && this.#state.probe?.allocatableBytes
    return bytes === undefined ? undefined : gpuStageBytes(bytes)
  }

  /**
   * With `auto`, tries the GPU with the largest of the user's models, unless that is known: what it finds counts from the next
   * start on, when nothing is loaded yet.
   */
  async choose(
    store: Pick<ModelStore, 'list'>,
    { mostBytes, signal }: { mostBytes: number; signal: AbortSignal }
  ): Promise<void> {
    const { choice, onNotice, threads } = this.#init
    if (choice !== 'auto' || !this.#presence.possible) return
    const model = largest(await store.list())
    if (model === undefined) return
    const { driver } = this.#presence
    const { shape } = model.manifest
    const quantization = quantizationOf(model.manifest)
    const subject = { name: model.name, shape, quantization, threads }
    if (this.#state.probe?.key === probeKey(subject, driver) || this.#state.crashes.length > 0) return
    // Devices that try none do not load it.
    const { tryGpu } = await import('./trial.ts')
    signal.throwIfAborted()
    const trying = tryGpu({ file: this.#file, driver, subject, mostBytes, signal })
    this.#trying = trying.catch(log.passOver('the GPU was not tried to the end; who asked for it is told'))
    const { verdict } = await trying
    log.info('the GPU was tried', () => ({ use: verdict.use, reason: verdict.reason }))
    const then = verdict.use === 'gpu' ? 'it computes from the next start on' : 'the CPU computes'
    onNotice(`${verdict.reason}: ${then}`)
  }

  /** A trial under way ends by the signal that it was given, and leaves nothing behind. */
  async stop(): Promise<void> {
    this.#guard.stop()
    await this.#trying
    await this.#gpu?.stop().catch(log.passOver('the GPU process was not stopped; it ends with this one'))
  }
}

/** Which of both the next start is to take, by what is asked for and known. */
export function chosen(
  choice: DeviceChoice,
  presence: GpuPresence,
  { probe, crashes }: Pick<GpuState, 'probe' | 'crashes'>
): { use: 'cpu' | 'gpu'; reason: string } {
  if (!presence.possible) return { use: 'cpu', reason: presence.reason }
  if (choice === 'gpu') return { use: 'gpu', reason: 'it was asked for' }
  if (probe !== undefined) return probe.verdict
  const crash = crashes.at(-1)
  if (crash === undefined) return { use: 'cpu', reason: 'the GPU has not been tried yet' }
  const advice = '`edgeshard profile --providers` tries it'
  return { use: 'cpu', reason: `the GPU's driver has crashed (${crash.reason}); ${advice}` }
}

function largest(models: readonly StoredModel[]): StoredModel | undefined {
  const bytes = ({ manifest }: StoredModel) => manifest.layers.reduce((sum, layer) => sum + layer.bytes, 0)
  return [...models].sort((a, b) => bytes(b) - bytes(a))[0]
}
