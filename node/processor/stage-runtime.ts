import { EventEmitter } from 'node:events'
import type { ByTimedKind } from '../../models/blocks.ts'
import { logger } from '../../models/log.ts'
import type { ModelShape, Quantization } from '../../models/manifest.ts'
import { GpuUnavailableError, InferenceError, RuntimeStoppedError } from '../../models/runtime/errors.ts'
import type { GpuRuntime } from '../../models/runtime/gpu-runtime.ts'
import type { LayerTimes, Runtime, Shard, ShardSpec } from '../../models/runtime/runtime.ts'
import { messageOf } from '../../protocols/text.ts'
import { NO_GPU_ADVICE } from './gpu-advice.ts'
import type { GpuGuard } from './gpu-guard.ts'
import { type GpuRefusals, kindOf, type LayersKind } from './gpu-refusals.ts'
import { GpuShard } from './gpu-shard.ts'

const log = logger('edgeshard:node')

/** A GPU that stages may be loaded on. */
export interface StageGpu {
  runtime: Pick<GpuRuntime, 'load' | 'profile'>
  guard: Pick<GpuGuard, 'refusal'>
  refusals: Pick<GpuRefusals, 'reasonOf' | 'add' | 'forget'>
}

/** Where stages are loaded: on the GPU for as long as one is chosen and may be tried, else on the CPU. */
export class StageRuntime implements Pick<Runtime, 'load' | 'profile'> {
  readonly #cpu: Pick<Runtime, 'load' | 'profile'>
  readonly #gpu: StageGpu | undefined
  #unavailable: string | undefined
  #used: 'cpu' | 'gpu'
  /**
   * `change`: stages, or those of one model, are loaded on another processor than before. `short`: the GPU has less memory than was asked of it.
   * `notice`: a line for people.
   */
  readonly events = new EventEmitter<{ change: []; short: []; notice: [message: string] }>()

  constructor(cpu: Pick<Runtime, 'load' | 'profile'>, gpu: StageGpu | undefined) {
    this.#cpu = cpu
    this.#gpu = gpu
    this.#used = this.processor.kind
  }

  /** What the next stage is loaded on, and why it is not the GPU that was chosen. */
  get processor(): { kind: 'cpu' | 'gpu'; reason?: string } {
    const reason = this.#unavailable ?? this.#gpu?.guard.refusal
    if (this.#gpu !== undefined && reason === undefined) return { kind: 'gpu' }
    return { kind: 'cpu', ...(reason !== undefined && { reason }) }
  }

  /** What the next stage of a model is loaded on: the CPU, too, where the GPU has refused its layers lately. */
  processorOf(kind: LayersKind): 'cpu' | 'gpu' {
    const isRefused = this.#gpu?.refusals.reasonOf(kind) !== undefined
    return isRefused ? 'cpu' : this.processor.kind
  }

  async load(spec: ShardSpec, options: Parameters<Runtime['load']>[1] = {}): Promise<Shard> {
    return await this.#onGpu(
      async gpu => new GpuShard(await gpu.load(spec, options), error => this.#noteShortage(error)),
      () => this.#cpu.load(spec, options),
      { kind: kindOf(spec.manifest), signal: options.signal }
    )
  }

  /** Times of the processor that stages are loaded on, or of the CPU where the GPU fails with such layers, as it would at their load. */
  async profile(
    shape: ModelShape,
    quantization?: Quantization,
    options: { signal?: AbortSignal; thorough?: boolean } = {}
  ): Promise<ByTimedKind<LayerTimes>> {
    const kind = { shape, quantization }
    const here = () => this.#cpu.profile(shape, quantization, options)
    return await this.#onGpu(
      async gpu => {
        const times = await gpu.profile(shape, quantization)
        // A load may have been refused meanwhile.
        return this.processorOf(kind) === 'gpu' ? times : await here()
      },
      here,
      { kind, signal: options.signal }
    )
  }

  /** Looks what the next stage is to be loaded on, and tells of it where that is new. */
  note(): void {
    const { kind } = this.processor
    if (kind === this.#used) return
    this.#used = kind
    this.events.emit('change')
  }

  async #onGpu<T>(
    there: (gpu: StageGpu['runtime']) => Promise<T>,
    here: () => Promise<T>,
    { kind, signal }: { kind: LayersKind; signal: AbortSignal | undefined }
  ): Promise<T> {
    this.note()
    if (this.#gpu === undefined || this.processorOf(kind) === 'cpu') return await here()
    const { runtime, refusals } = this.#gpu
    try {
      const done = await there(runtime)
      // Its time was over, and it is no refusal any more: what was said of the CPU's times is taken back.
      if (this.processorOf(kind) === 'gpu' && refusals.forget(kind)) this.events.emit('change')
      return done
    } catch (error) {
      signal?.throwIfAborted()
      if (!isOfGpu(error)) throw error
      this.#noteShortage(error)
      if (error instanceof GpuUnavailableError && this.#unavailable === undefined) {
        // Whether there is one does not change while this program runs.
        this.#unavailable = error.message
        this.events.emit('notice', `${error.message}: layers are computed on the CPU; ${NO_GPU_ADVICE}`)
      }
      this.note()
      if (error instanceof InferenceError && !isShortage(error)) {
        // It would fail at each load, and plans would go by times that the GPU never takes.
        refusals.add(kind, error.message)
        this.events.emit('change')
      }
      log.warn('the GPU failed; the CPU takes its place', { error: messageOf(error) })
      return await here()
    }
  }

  #noteShortage(error: unknown): void {
    if (isShortage(error)) this.events.emit('short')
  }
}

/** What ONNX Runtime and drivers say where memory is short comes as an error like any other. */
function isShortage(error: unknown): boolean {
  return error instanceof InferenceError && /memory|alloc|buffer size|too large/i.test(error.message)
}

/** False of what would fail on the CPU as well: a missing file, a range that the model does not have. */
function isOfGpu(error: unknown): boolean {
  return (
    error instanceof GpuUnavailableError ||
    error instanceof RuntimeStoppedError ||
    error instanceof InferenceError
  )
}
