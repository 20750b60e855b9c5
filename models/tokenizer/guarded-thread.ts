import { Worker } from 'node:worker_threads'
import { ChatTemplateError, TokenizerError, TokenizerTimeoutError } from './errors.ts'
import type { WorkerCall, WorkerInit, WorkerReply } from './messages.ts'

/** Enough for a vocabulary of 256,000 tokens; a template that builds a text without end stops here. */
const MAX_HEAP_MB = 1024
/** V8 would let short-lived objects grow to 48: with 8 Llama-2's tokenizer takes 25 MB less and no longer. */
const YOUNG_HEAP_MB = 8
const OWN_EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const WORKER_URL = new URL(`./worker${OWN_EXTENSION}`, import.meta.url)

export interface Deadlines {
  loadTimeoutMs: number
  callTimeoutMs: number
}

/**
 * A thread that runs what came with a model, one call at a time, each with a deadline. A thread that misses it or
 * runs out of memory is ended; the next call starts a fresh one.
 */
export class GuardedThread {
  readonly #init: WorkerInit
  readonly #deadlines: Deadlines
  #worker: Worker | null = null
  #queue: Promise<unknown> = Promise.resolve()
  #closed = false

  constructor(init: WorkerInit, deadlines: Deadlines) {
    this.#init = init
    this.#deadlines = deadlines
  }

  /** Starts the thread; resolves with what it says of the model's files. */
  async start(): Promise<Extract<WorkerReply, { kind: 'ready' }>> {
    const worker = new Worker(WORKER_URL, {
      workerData: this.#init,
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, maxYoungGenerationSizeMb: YOUNG_HEAP_MB },
      stdout: true,
      stderr: true,
      env: {}
    })
    // A hostile vocabulary must not flood the terminal either: what the thread prints goes nowhere.
    worker.stdout.resume()
    worker.stderr.resume()
    this.#worker = worker
    const reply = await this.#reply(worker, this.#deadlines.loadTimeoutMs, 'loading the tokenizer')
    if (reply.kind === 'ready') return reply
    this.#discard(worker)
    throw typedError(reply)
  }

  /** Token ids of a text or conversation. Calls wait for each other; the deadline counts from when one begins. */
  call(call: WorkerCall, signal?: AbortSignal): Promise<number[]> {
    const run = async (): Promise<number[]> => {
      signal?.throwIfAborted()
      if (this.#closed) throw new TokenizerError('the tokenizer is closed')
      if (this.#worker === null) await this.start()
      const worker = this.#worker!
      worker.postMessage(call)
      const what = call.kind === 'chat' ? 'the chat template' : 'encoding the text'
      const reply = await this.#reply(worker, this.#deadlines.callTimeoutMs, what)
      if (reply.kind === 'ids') return reply.ids
      throw typedError(reply)
    }
    const result = this.#queue.then(run)
    this.#queue = result.catch(() => undefined)
    return result
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#worker?.terminate()
    this.#worker = null
  }

  async #reply(worker: Worker, timeoutMs: number, what: string): Promise<WorkerReply> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkerReply>()
    const timer = setTimeout(
      () => reject(new TokenizerTimeoutError(`${what} took more than ${timeoutMs} ms and was ended`)),
      timeoutMs
    )
    const onError = (error: Error) => reject(new TokenizerError(`${what} failed: ${error.message}`))
    const onExit = () => reject(new TokenizerError(`${what} ended early: the tokenizer is closed`))
    worker.ref()
    worker.once('message', resolve).once('error', onError).once('exit', onExit)
    try {
      return await promise
    } catch (error) {
      this.#discard(worker)
      throw error
    } finally {
      clearTimeout(timer)
      worker.off('message', resolve).off('error', onError).off('exit', onExit)
      worker.unref()
    }
  }

  /** Ends a thread that cannot be trusted to answer the next call. */
  #discard(worker: Worker): void {
    if (this.#worker === worker) this.#worker = null
    worker.on('error', () => undefined)
    void worker.terminate()
  }
}

/** What the library itself throws about a file says nothing of it. */
function typedError(reply: WorkerReply): Error {
  const { name, message } =
    reply.kind === 'error' ? reply : { name: '', message: `${reply.kind} out of turn` }
  if (name === 'ChatTemplateError') return new ChatTemplateError(message)
  return new TokenizerError(name === 'TokenizerError' ? message : `tokenizer.json cannot be used: ${message}`)
}
