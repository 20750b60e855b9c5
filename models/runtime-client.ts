import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { LayerKind } from './layers.ts'
import type { ModelShape, Quantization } from './manifest.ts'
import type {
  HiddenStates,
  LayerTimes,
  OpenSessionOptions,
  Runtime,
  Shard,
  ShardSession,
  ShardSpec
} from './runtime.ts'
import { fromPlain, RuntimeStoppedError, SessionClosedError } from './runtime-errors.ts'
import type { Answers, Call, Reply, Request, WorkerSetup } from './runtime-messages.ts'

export interface RuntimeInit {
  /**
   * Threads that compute one step.
   *
   * @default the number of processors available
   */
  threads?: number
}

/** How long `stop` waits for the worker to free its weights before it is ended. */
const STOP_DEADLINE_MS = 5000

/** Starts the worker thread that computes; resolves when it answers. */
export async function startRuntime(init: RuntimeInit = {}): Promise<Runtime> {
  const threads = init.threads ?? availableParallelism()
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new RangeError(`${threads} is not a number of threads`)
  }
  const link = new WorkerLink({ threads })
  await link.online
  return new WorkerRuntime(link)
}

/** Calls to the worker and their answers. */
class WorkerLink {
  readonly online: Promise<void>
  readonly #worker: Worker
  readonly #pending = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>()
  #count = 0
  #ended: RuntimeStoppedError | undefined

  constructor(setup: WorkerSetup) {
    // Official builds of ONNX Runtime report to Microsoft unless this is set before they load (microsoft/onnxruntime
    // #27379): it must be in the process's own environment, which only the main thread's `process.env` is.
    process.env.ORT_DISABLE_TELEMETRY = '1'
    // Published code is compiled: the worker's file has the extension that this one has.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    this.#worker = new Worker(new URL(`./runtime-worker.${extension}`, import.meta.url), {
      workerData: setup,
      execArgv: []
    })
    this.online = new Promise((resolve, reject) => {
      this.#worker.once('online', resolve)
      this.#worker.once('error', reject)
    })
    this.#worker.on('message', (reply: Reply) => this.#settle(reply))
    this.#worker.on('error', error => this.#end(`the runtime's thread crashed: ${error.message}`, error))
    this.#worker.on('exit', code => this.#end(`the runtime's thread ended (exit status ${code})`))
  }

  call<C extends Call>(call: C): Promise<Answers[C['op']]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    const id = this.#count++
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#worker.postMessage({ ...call, id } satisfies Request)
    })
  }

  nextId(): number {
    return this.#count++
  }

  async stop(): Promise<void> {
    if (this.#ended !== undefined) return
    const exited = new Promise<void>(resolve => this.#worker.once('exit', () => resolve()))
    const stopped = this.call({ op: 'stop' })
    this.#end('the runtime was stopped')
    const timer = setTimeout(() => void this.#worker.terminate(), STOP_DEADLINE_MS)
    await stopped.catch(() => undefined)
    await exited
    clearTimeout(timer)
  }

  #settle(reply: Reply): void {
    const pending = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if (reply.ok) pending?.resolve(reply.value as never)
    else pending?.reject(fromPlain(reply.error))
  }

  #end(message: string, cause?: unknown): void {
    this.#ended ??= new RuntimeStoppedError(message, { cause })
    for (const { reject } of this.#pending.values()) reject(this.#ended)
    this.#pending.clear()
  }
}

class WorkerRuntime implements Runtime {
  readonly #link: WorkerLink

  constructor(link: WorkerLink) {
    this.#link = link
  }

  async load(
    spec: ShardSpec,
    options: { signal?: AbortSignal; onProgress?: (fraction: number) => void } = {}
  ): Promise<Shard> {
    options.signal?.throwIfAborted()
    const id = this.#link.nextId()
    const { manifest, range, blobsDir } = spec
    const loaded = this.#link.call({ op: 'load', shard: id, spec: { manifest, range, blobsDir } })
    await unlessAborted(loaded, options.signal, () => void this.#release(id))
    options.onProgress?.(1)
    return new WorkerShard(this.#link, id, spec)
  }

  async profile(
    shape: ModelShape,
    quantization?: Quantization,
    options: { signal?: AbortSignal } = {}
  ): Promise<Record<LayerKind, LayerTimes>> {
    options.signal?.throwIfAborted()
    const spec = quantization === undefined ? { shape } : { shape, quantization }
    return await unlessAborted(this.#link.call({ op: 'profile', spec }), options.signal, () => undefined)
  }

  stop(): Promise<void> {
    return this.#link.stop()
  }

  async #release(shard: number): Promise<void> {
    await this.#link.call({ op: 'release', shard }).catch(() => undefined)
  }
}

class WorkerShard implements Shard {
  readonly manifest: ShardSpec['manifest']
  readonly range: ShardSpec['range']
  readonly #link: WorkerLink
  readonly #id: number
  readonly #sessions = new Set<WorkerSession>()

  constructor(link: WorkerLink, id: number, spec: ShardSpec) {
    this.#link = link
    this.#id = id
    this.manifest = spec.manifest
    this.range = spec.range
  }

  async open(options: OpenSessionOptions): Promise<ShardSession> {
    const id = this.#link.nextId()
    const { maxTokens, sampling } = options
    const plain = sampling === undefined ? { maxTokens } : { maxTokens, sampling }
    const outputs = await this.#link.call({ op: 'open', shard: this.#id, session: id, options: plain })
    const session = new WorkerSession(this.#link, id, outputs, () => this.#sessions.delete(session))
    this.#sessions.add(session)
    return session
  }

  async release(): Promise<void> {
    for (const session of this.#sessions) session.fail('its shard was released')
    this.#sessions.clear()
    await this.#link.call({ op: 'release', shard: this.#id })
  }
}

class WorkerSession implements ShardSession {
  readonly #link: WorkerLink
  readonly #id: number
  readonly #outputs: HiddenStates[]
  readonly #onClose: () => void
  readonly #rejects = new Set<(error: Error) => void>()
  #closed: SessionClosedError | undefined

  constructor(link: WorkerLink, id: number, outputs: HiddenStates[], onClose: () => void) {
    this.#link = link
    this.#id = id
    this.#outputs = outputs
    this.#onClose = onClose
  }

  async forward(step: Parameters<ShardSession['forward']>[0]): ReturnType<ShardSession['forward']> {
    const output = await this.#untilClosed(this.#link.call({ op: 'forward', session: this.#id, step }))
    if (output.kind !== 'hidden') return output
    const { hidden, computeMs } = output
    return { kind: 'hidden', computeMs, hidden: typeof hidden === 'number' ? this.#outputs[hidden]! : hidden }
  }

  async trim(length: number): Promise<void> {
    await this.#untilClosed(this.#link.call({ op: 'trim', session: this.#id, length }))
  }

  async close(): Promise<void> {
    if (this.#closed !== undefined) return
    this.fail('it was closed')
    this.#onClose()
    await this.#link.call({ op: 'close', session: this.#id })
  }

  /** Rejects what is pending and everything that is asked from now on. */
  fail(reason: string): void {
    this.#closed ??= new SessionClosedError(`the session is over: ${reason}`)
    for (const reject of this.#rejects) reject(this.#closed)
    this.#rejects.clear()
  }

  async #untilClosed<T>(answer: Promise<T>): Promise<T> {
    if (this.#closed !== undefined) {
      answer.catch(() => undefined)
      throw this.#closed
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    this.#rejects.add(reject)
    answer.then(resolve, reject)
    return promise.finally(() => this.#rejects.delete(reject))
  }
}

/** The promise, or the signal's reason when that comes first; then `undo` runs once the promise has settled well. */
async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  undo: () => void
): Promise<T> {
  if (signal === undefined) return promise
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    promise.then(undo, () => undefined)
    reject(signal.reason)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
