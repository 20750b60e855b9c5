import { Worker } from 'node:worker_threads'
import { logger } from '../log.ts'
import { fromPlain, RuntimeStoppedError } from './errors.ts'
import type { RuntimeLink } from './link.ts'
import type { Answers, Call, Reply, Request, WorkerSetup } from './messages.ts'

const log = logger('edgeshard:runtime')

/** How long `stop` waits for the worker to free its weights before it is ended. */
const STOP_DEADLINE_MS = 5000

/** A thread of the runtime. */
export class WorkerLink implements RuntimeLink {
  readonly online: Promise<void>
  readonly watchers = new Set<(ended: Error) => void>()
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
    this.#worker = new Worker(new URL(`./worker.${extension}`, import.meta.url), {
      workerData: setup,
      execArgv: []
    })
    this.online = new Promise((resolve, reject) => {
      this.#worker.once('online', resolve)
      this.#worker.once('error', reject)
    })
    // A caller that does not wait for it hears of an error from the first call.
    this.online.catch(() => undefined)
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

  get ended(): Error | undefined {
    return this.#ended
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
    await stopped.catch(log.passOver('the worker did not confirm its stop; it has ended or is ended'))
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
    for (const tell of this.watchers) tell(this.#ended)
    this.watchers.clear()
    for (const { reject } of this.#pending.values()) reject(this.#ended)
    this.#pending.clear()
  }
}
