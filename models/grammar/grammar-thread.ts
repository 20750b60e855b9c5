import { Worker } from 'node:worker_threads'
import { logger } from '../log.ts'
import { GrammarError } from './errors.ts'
import type { GrammarCall, GrammarReply, GrammarThreadSetup } from './messages.ts'

const log = logger('edgeshard:runtime')

const OWN_EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const THREAD_URL = new URL(`./thread${OWN_EXTENSION}`, import.meta.url)
const MAX_HEAP_MB = 512

/** What a call may take; who waits longer has a thread that is ended. */
export interface GrammarDeadlines {
  /** Sorting a vocabulary. */
  startMs: number
  compileMs: number
  maskMs: number
}

/**
 * A thread that holds one grammar, and where answers of it are. It answers one call after the other, each with a deadline: one
 * that is missed is the end of the thread, for WebAssembly goes on until it is done.
 */
export class GrammarThread {
  readonly #worker: Worker
  readonly #deadlines: GrammarDeadlines
  readonly #ready: Promise<unknown>
  readonly #waiting: { resolve: (reply: GrammarReply) => void; reject: (error: Error) => void }[] = []
  #queue: Promise<unknown> = Promise.resolve()
  #over: Error | undefined

  constructor(setup: GrammarThreadSetup, deadlines: GrammarDeadlines) {
    this.#deadlines = deadlines
    const limits = { maxOldGenerationSizeMb: MAX_HEAP_MB }
    this.#worker = new Worker(THREAD_URL, {
      workerData: setup,
      resourceLimits: limits,
      stdout: true,
      stderr: true
    })
    this.#worker.on('message', (reply: GrammarReply) => this.#waiting.shift()?.resolve(reply))
    this.#worker.on('error', error => this.end(`its thread failed: ${error.message}`))
    this.#worker.on('exit', () => this.end('its thread has ended'))
    this.#ready = this.#answer(deadlines.startMs, 'reading the vocabulary')
    // The first call that compiles rejects with it.
    this.#ready.catch(() => {})
  }

  get isOver(): boolean {
    return this.#over !== undefined
  }

  /**
   * @param constraint the text of its JSON
   * @throws {GrammarError} where it cannot be read, or is too large to be compiled in time
   */
  async compile(constraint: string): Promise<void> {
    await this.#ready
    await this.#call({ op: 'compile', constraint }, this.#deadlines.compileMs, 'compiling the grammar')
  }

  /** @throws {GrammarError} */
  async mask(call: Omit<Extract<GrammarCall, { op: 'mask' }>, 'op'>): Promise<Uint8Array> {
    const reply = await this.#call({ op: 'mask', ...call }, this.#deadlines.maskMs, 'what may follow')
    if (reply.kind === 'mask') return reply.mask
    throw new GrammarError(`the grammar's thread answered ${reply.kind} out of turn`)
  }

  close(answer: number): void {
    const closed = log.passOver('an answer was not closed in its grammar; its thread has ended')
    void this.#call({ op: 'close', answer }, this.#deadlines.maskMs, 'closing an answer').catch(closed)
  }

  /** Ends it; what waits rejects, with that error or a GrammarError that says so. */
  end(reason: string | Error): void {
    if (this.#over !== undefined) return
    this.#over = typeof reason === 'string' ? new GrammarError(reason) : reason
    for (const { reject } of this.#waiting.splice(0)) reject(this.#over)
    void this.#worker
      .terminate()
      .catch(log.passOver('a thread of a grammar could not be ended; it ends with the node'))
  }

  #call(call: GrammarCall, timeoutMs: number, what: string): Promise<GrammarReply> {
    const run = async () => {
      if (this.#over !== undefined) throw this.#over
      this.#worker.postMessage(call)
      return await this.#answer(timeoutMs, what)
    }
    const result = this.#queue.then(run)
    // The caller hears of it; the next call has its own turn.
    this.#queue = result.catch(() => undefined)
    return result
  }

  async #answer(timeoutMs: number, what: string): Promise<GrammarReply> {
    const { promise, resolve, reject } = Promise.withResolvers<GrammarReply>()
    this.#waiting.push({ resolve, reject })
    this.#worker.ref()
    const late = () => this.end(`${what} took more than ${timeoutMs} ms: make it smaller`)
    const timer = setTimeout(late, timeoutMs)
    try {
      const reply = await promise
      if (reply.kind !== 'error') return reply
      if (reply.isBroken) this.end(reply.message)
      throw new GrammarError(reply.message)
    } finally {
      clearTimeout(timer)
      if (this.#waiting.length === 0) this.#worker.unref()
    }
  }
}
