import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { MeshState } from '../api.ts'
import { createClient } from '../client/index.ts'
import { nodeEnvironment } from './node-environment.ts'

const LAUNCHER = fileURLToPath(
  new URL(
    import.meta.url.endsWith('.ts') ? '../cli/edgeshard.mjs' : '../../../node/cli/edgeshard.mjs',
    import.meta.url
  )
)
const READY_TIMEOUT_MS = 60_000
const STOP_TIMEOUT_MS = 5_000
const API_TIMEOUT_MS = 60_000
/** A broken connection is seen a little before the end of the process behind it. */
const EXIT_NOTICE_MS = 300

/** Runs one edgeshard command to its end and returns what it printed. */
export async function edgeshard(args: string[], options: { signal?: AbortSignal } = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [LAUNCHER, ...args], options)
  return stdout
}

interface Ready {
  name: string
  peerId: string
  api: string
  addresses: string[]
}

/** A node in a process of its own, started with the same command that a person types. */
export class NodeProcess {
  readonly name: string
  readonly peerId: string
  readonly api: string
  /** Multiaddrs for peers. */
  readonly addresses: string[]
  readonly pid: number
  readonly #child: ChildProcess
  readonly #exited: Promise<string>

  private constructor(child: ChildProcess, ready: Ready, exited: Promise<string>) {
    this.#child = child
    this.#exited = exited
    this.name = ready.name
    this.peerId = ready.peerId
    this.api = ready.api
    this.addresses = ready.addresses
    this.pid = child.pid!
  }

  /**
   * Starts `edgeshard up --json ARGS` and waits until it is ready.
   *
   * @param options `onLog`: called with each line of its stderr
   * @throws when the process ends, with its last line on stderr, or is not ready within `readyTimeoutMs`
   */
  static async start(
    args: string[],
    {
      signal,
      readyTimeoutMs = READY_TIMEOUT_MS,
      onLog
    }: { signal?: AbortSignal; readyTimeoutMs?: number; onLog?: (line: string) => void } = {}
  ): Promise<NodeProcess> {
    const child = spawn(process.execPath, [LAUNCHER, 'up', '--json', ...args], {
      // The channel ends the node when this process does, even by a signal that cannot be handled.
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: nodeEnvironment(process.env)
    })
    let complaint = ''
    createInterface({ input: child.stderr! }).on('line', line => {
      onLog?.(line)
      // A crash ends with a stack and a version; the line that says what happened comes before.
      if (complaint === '' || /^edgeshard:|Error\b/.test(line)) complaint = line
    })
    const exited = new Promise<string>(resolve => {
      child.once('exit', (code, signal) => resolve(`ended (${signal ?? code}) ${complaint}`.trim()))
    })
    const ready = new Promise<Ready>(resolve => {
      createInterface({ input: child.stdout! }).on('line', line => {
        const event = JSON.parse(line)
        if (event.event === 'ready') resolve(event)
      })
    })
    const deadline = AbortSignal.timeout(readyTimeoutMs)
    const gaveUp = new Promise<never>((_, reject) => {
      exited.then(how => reject(new Error(`a node did not start: ${how}`)))
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true })
      deadline.addEventListener('abort', () =>
        reject(
          new Error(
            `a node did not get ready within ${readyTimeoutMs / 1000} s: this machine is very busy, or the process ` +
              `hangs${complaint === '' ? '' : ` (it last said: ${complaint})`}`
          )
        )
      )
    })
    try {
      return new NodeProcess(child, await Promise.race([ready, gaveUp]), exited)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
  }

  /** How the process ended, once it has. */
  get exited(): Promise<string> {
    return this.#exited
  }

  /** @throws naming the node, and how its process ended where it has */
  async mesh({ signal }: { signal?: AbortSignal } = {}): Promise<MeshState> {
    try {
      return await createClient({ url: this.api, timeoutMs: API_TIMEOUT_MS }).mesh({ signal })
    } catch (error) {
      signal?.throwIfAborted()
      throw await this.explain(error)
    }
  }

  /** What a failed call to the node comes from: the end of its process, else the failure itself. */
  async explain(error: unknown): Promise<unknown> {
    const alive = new Promise<undefined>(resolve => setTimeout(() => resolve(undefined), EXIT_NOTICE_MS))
    const how = await Promise.race([this.#exited, alive])
    return how === undefined
      ? error
      : new Error(`${this.name} (process ${this.pid}) ${how}`, { cause: error })
  }

  /** Asks the process to end and makes sure that it did. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGTERM')
    const forced = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS)
    await this.#exited
    clearTimeout(forced)
  }
}
