import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { logger } from '../log.ts'
import { fromPlain, RuntimeStoppedError } from './errors.ts'
import { allocateHidden } from './hidden.ts'
import type { RuntimeLink } from './link.ts'
import { weightBytes } from './memory.ts'
import type { Alive, Answers, Call, Reply, Request, Started } from './messages.ts'
import type { HiddenStates, ShardSpec } from './runtime.ts'

const log = logger('edgeshard:runtime')

const OWN_EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const ENTRY = fileURLToPath(new URL(`./gpu-process${OWN_EXTENSION}`, import.meta.url))

/** How long a process that was told to stop has for it, and one that cannot be told anything to say why. */
const STOP_DEADLINE_MS = 5000
/** Weights come from the slowest of disks at least so fast, and a process that reads them says nothing meanwhile. */
const LEAST_LOAD_BYTES_PER_MS = 10_000

export interface GpuLinkInit {
  /** A process that has said nothing for so long, while something is asked of it, hangs and is killed. */
  silenceMs: number
  /** Once, when the process has ended by itself or was killed for its silence. */
  onCrash?: (reason: string) => void
}

interface Pending {
  resolve: (value: never) => void
  reject: (error: Error) => void
  /** How much longer than others it may be silent over it. */
  extraMs: number
}

/** The process that computes on a GPU. Whatever it does, every call is answered or rejected. */
export class GpuLink implements RuntimeLink {
  readonly online: Promise<void>
  readonly watchers = new Set<(ended: Error) => void>()
  readonly #child: ChildProcess
  readonly #init: GpuLinkInit
  readonly #pending = new Map<number, Pending>()
  readonly #started = Promise.withResolvers<void>()
  readonly #exited = Promise.withResolvers<void>()
  #count = 0
  #isStarting = true
  #isStopping = false
  #ended: Error | undefined
  #watch: NodeJS.Timeout | undefined

  constructor(init: GpuLinkInit) {
    this.#init = init
    this.#child = fork(ENTRY, {
      serialization: 'advanced',
      // What drivers print is for nobody, and would break what a command prints.
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      execArgv: [],
      env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' }
    })
    this.#child
      .on('message', message => this.#take(message as Reply | Started | Alive))
      .on('error', error => {
        // One that was never started does not exit.
        if (this.#child.pid === undefined) this.#exited.resolve()
        this.#crash(error.message)
      })
      .on('exit', (status, signal) => {
        this.#exited.resolve()
        this.#crash(signal === null ? `exit status ${status}` : signal)
      })
    this.online = this.#started.promise
    // A caller that does not wait for it hears of an error from the first call.
    this.online.catch(() => undefined)
    this.#watchSilence()
  }

  /** The process, for as long as it runs. */
  get pid(): number | undefined {
    return this.#ended === undefined ? this.#child.pid : undefined
  }

  get ended(): Error | undefined {
    return this.#ended
  }

  nextId(): number {
    return this.#count++
  }

  call<C extends Call>(call: C): Promise<Answers[C['op']]> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    const id = this.#count++
    const { promise, resolve, reject } = Promise.withResolvers<Answers[C['op']]>()
    const extraMs = call.op === 'load' ? loadMs(call.spec) : 0
    const waits = this.#pending.size > 0 || this.#isStarting
    this.#pending.set(id, { resolve, reject, extraMs })
    if (!waits || extraMs > 0) this.#watchSilence()
    const request: Request = { ...call, id }
    this.#child.ref()
    this.#child.channel?.ref()
    this.online
      .then(() => this.#child.send(request, error => error !== null && this.#unheard(error.message)))
      // What is pending was rejected with it.
      .catch(() => undefined)
    return promise
  }

  async stop(): Promise<void> {
    this.#child.ref()
    if (this.#ended !== undefined) return await this.#exited.promise
    this.#isStopping = true
    this.call({ op: 'stop' }).catch(log.passOver('the GPU process did not confirm its stop; it is ended'))
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_DEADLINE_MS)
    await this.#exited.promise
    clearTimeout(timer)
  }

  /** Ends the process at once, whatever it does. */
  async kill(): Promise<void> {
    this.#isStopping = true
    this.#child.ref()
    this.#end(new RuntimeStoppedError('the runtime was stopped'))
    await this.#exited.promise
  }

  #take(message: Reply | Started | Alive): void {
    clearTimeout(this.#watch)
    if ('alive' in message) {
      // That it works is all.
    } else if ('started' in message) {
      this.#isStarting = false
      if (message.started) this.#started.resolve()
      else this.#end(fromPlain(message.error))
    } else {
      const pending = this.#pending.get(message.id)
      this.#pending.delete(message.id)
      if (message.ok) pending?.resolve(inSharedMemory(message.value) as never)
      else pending?.reject(fromPlain(message.error))
    }
    if (this.#pending.size > 0) this.#watchSilence()
    else {
      // Idle, it keeps nobody's process alive.
      this.#child.unref()
      this.#child.channel?.unref()
    }
  }

  #watchSilence(): void {
    const extra = [...this.#pending.values()].map(({ extraMs }) => extraMs)
    const ms = this.#init.silenceMs + Math.max(0, ...extra)
    clearTimeout(this.#watch)
    this.#watch = setTimeout(() => this.#crash(`it said nothing for ${ms / 1000} s`), ms)
  }

  /** It cannot be told anything, as it is ending: how it has ended says more than that. */
  #unheard(reason: string): void {
    clearTimeout(this.#watch)
    this.#watch = setTimeout(() => this.#crash(reason), STOP_DEADLINE_MS)
  }

  #crash(reason: string): void {
    if (this.#ended !== undefined) return
    const told = this.#isStopping
    this.#end(
      new RuntimeStoppedError(told ? 'the runtime was stopped' : `the process of the GPU ended: ${reason}`)
    )
    if (!told) this.#init.onCrash?.(reason)
  }

  #end(error: Error): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    for (const tell of this.watchers) tell(error)
    this.watchers.clear()
    clearTimeout(this.#watch)
    this.#child.kill('SIGKILL')
    this.#started.reject(error)
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}

function loadMs({ manifest, range }: ShardSpec): number {
  return Math.round(weightBytes(manifest, range) / LEAST_LOAD_BYTES_PER_MS)
}

/** Hidden states of an answer go on to other threads: the one copy that is made of them here is shared memory. */
function inSharedMemory(value: Answers[keyof Answers]): Answers[keyof Answers] {
  if (typeof value !== 'object' || !('hidden' in value) || typeof value.hidden === 'number') return value
  const { tokens, data }: Pick<HiddenStates, 'tokens'> & { data: Float32Array } = value.hidden
  const hidden = allocateHidden(tokens, data.length / tokens)
  hidden.data.set(data)
  return { ...value, hidden }
}
