import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ChatTemplateError, TokenizerError, TokenizerTimeoutError } from './errors.ts'
import type { WorkerCall, WorkerInit, WorkerReply } from './messages.ts'

const OWN_EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const ENTRY = fileURLToPath(new URL(`./process${OWN_EXTENSION}`, import.meta.url))

export interface Deadlines {
  loadTimeoutMs: number
  /** What a call may take, and what each character of it may take besides while its caller waits. */
  callTimeoutMs: number
  characterTimeoutMs: number
  /** A process that is not called for so long gives its memory back, where it may. */
  idleTimeoutMs: number
}

/** When an answer is late. */
interface Late {
  timeoutMs: number
  /** When it is where nobody waits for it any more. */
  left?: { signal: AbortSignal; timeoutMs: number } | undefined
}

const LONGEST_TIMER_MS = 2 ** 31 - 1

/**
 * A process that runs what came with a model, one call at a time, each with a deadline. A thread would not do: a
 * template can make V8 give up the whole process (a list of 2^27 parts does). A process that misses its deadline,
 * dies or is idle for long is replaced at the next call.
 */
export class GuardedProcess {
  readonly #init: WorkerInit
  readonly #deadlines: Deadlines
  readonly #mayRest: () => boolean
  #child: ChildProcess | null = null
  #queue: Promise<unknown> = Promise.resolve()
  #closed = false
  #idle: NodeJS.Timeout | undefined

  /** @param mayRest whether the process may end while it is idle; asked when it was so for long, and again after as long */
  constructor(init: WorkerInit, deadlines: Deadlines, mayRest: () => boolean) {
    this.#init = init
    this.#deadlines = deadlines
    this.#mayRest = mayRest
  }

  /** Starts the process; resolves with what it says of the model's files. */
  async start(): Promise<Extract<WorkerReply, { kind: 'ready' }>> {
    const child = fork(ENTRY, {
      serialization: 'advanced',
      // What a hostile vocabulary makes the library print goes nowhere.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: [],
      // Windows needs the one, and Node compiles less with the other; nothing else is handed on.
      env: { ...handedOn('SystemRoot'), ...handedOn('NODE_COMPILE_CACHE') }
    })
    child.on('error', () => this.#discard(child)).on('exit', () => this.#discard(child))
    this.#child = child
    const late = { timeoutMs: this.#deadlines.loadTimeoutMs }
    const reply = await this.#ask(child, this.#init, late, 'loading the tokenizer')
    if (reply.kind === 'ready') return reply
    this.#discard(child)
    throw typedError(reply)
  }

  /** Token ids of a text or conversation. Calls wait for each other; the deadline counts from when one begins. */
  call(call: WorkerCall, signal?: AbortSignal): Promise<number[]> {
    const run = async (): Promise<number[]> => {
      signal?.throwIfAborted()
      if (this.#closed) throw new TokenizerError('the tokenizer is closed')
      if (this.#child === null) await this.start()
      const what = call.kind === 'chat' ? 'the chat template' : 'encoding the text'
      const { callTimeoutMs, characterTimeoutMs } = this.#deadlines
      const timeoutMs = Math.ceil(callTimeoutMs + characterTimeoutMs * charactersOf(call))
      const late = { timeoutMs, left: signal && { signal, timeoutMs: callTimeoutMs } }
      const reply = await this.#ask(this.#child!, call, late, what)
      if (reply.kind === 'ids') return reply.ids
      throw typedError(reply)
    }
    const result = this.#queue.then(run)
    // The caller hears of it; the next call has its own turn.
    this.#queue = result.catch(() => undefined)
    return result
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#idle)
    const child = this.#child
    if (child === null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.ref()
    this.#discard(child)
    await gone
  }

  async #ask(
    child: ChildProcess,
    message: WorkerInit | WorkerCall,
    { timeoutMs, left }: Late,
    what: string
  ): Promise<WorkerReply> {
    const { promise, resolve, reject } = Promise.withResolvers<WorkerReply>()
    const beganMs = performance.now()
    const within = (ms: number) =>
      setTimeout(
        () => reject(new TokenizerTimeoutError(`${what} took more than ${ms} ms and was ended`)),
        Math.min(LONGEST_TIMER_MS, Math.max(0, beganMs + ms - performance.now()))
      )
    let timer = within(timeoutMs)
    const onLeft = () => {
      clearTimeout(timer)
      timer = within(left!.timeoutMs)
    }
    left?.signal.addEventListener('abort', onLeft, { once: true })
    const onError = (error: Error) => reject(new TokenizerError(`${what} failed: ${error.message}`))
    const onExit = () => reject(new TokenizerError(`${what} ended the process it ran in`))
    const onMessage = (reply: unknown) => resolve(reply as WorkerReply)
    clearTimeout(this.#idle)
    child.ref()
    child.channel?.ref()
    child.once('message', onMessage).once('error', onError).once('exit', onExit)
    child.send(message, error => {
      if (error) onError(error)
    })
    try {
      return await promise
    } catch (error) {
      this.#discard(child)
      throw error
    } finally {
      clearTimeout(timer)
      left?.signal.removeEventListener('abort', onLeft)
      child.off('message', onMessage).off('error', onError).off('exit', onExit)
      child.unref()
      child.channel?.unref()
      this.#rest(child)
    }
  }

  #rest(child: ChildProcess): void {
    // A process that is gone is not asked after: that would never end.
    if (this.#child !== child) return
    const onIdle = () => (this.#mayRest() ? this.#discard(child) : this.#rest(child))
    this.#idle = setTimeout(onIdle, this.#deadlines.idleTimeoutMs).unref()
  }

  /** Ends a process that cannot be trusted to answer the next call. */
  #discard(child: ChildProcess): void {
    if (this.#child === child) this.#child = null
    child.kill('SIGKILL')
  }
}

/** Characters that are to be read for a call. */
function charactersOf(call: WorkerCall): number {
  return call.kind === 'encode' ? call.text.length : JSON.stringify([call.messages, call.args ?? null]).length
}

function handedOn(name: string): Record<string, string> {
  const value = process.env[name]
  return value === undefined ? {} : { [name]: value }
}

function typedError(reply: WorkerReply): Error {
  if (reply.kind !== 'error')
    return new TokenizerError(`the tokenizer's process answered ${reply.kind} out of turn`)
  const { name, message } = reply
  return name === 'ChatTemplateError' ? new ChatTemplateError(message) : new TokenizerError(message)
}
