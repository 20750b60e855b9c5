import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** A line that `up --json` printed, with the time at which the lab read it. */
export interface LabEvent {
  event: string
  atMs: number
  /** When the node printed it, by its clock. */
  at?: string
  name?: string
  peerId?: string
  addresses?: string[]
  message?: string
}

/** A line of a node's log, as `--log-format json` writes it. */
export interface LabLogLine {
  /** ISO 8601. */
  time: string
  message: string
  fields: Record<string, unknown>
}

/** A node of the lab: the real command, in its host's namespace. */
export class LabNode {
  readonly host: string
  readonly events: LabEvent[] = []
  /** What it has logged, where it was started with `--log-format json`. */
  readonly log: LabLogLine[] = []
  readonly #child: ChildProcess
  #stderr = ''
  #waiting: (() => void)[] = []

  constructor(host: string, command: string, args: string[]) {
    this.host = host
    this.#child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    createInterface({ input: this.#child.stdout! }).on('line', line => {
      this.events.push({ ...(JSON.parse(line) as LabEvent), atMs: performance.now() })
      this.#wake()
    })
    createInterface({ input: this.#child.stderr! }).on('line', line => {
      this.#stderr = `${this.#stderr}${line}\n`.slice(-4000)
      // Warnings of Node are no lines of ours.
      if (line.startsWith('{"time"')) this.log.push(JSON.parse(line) as LabLogLine)
    })
    this.#child.on('exit', () => this.#wake())
  }

  /** The first event that fits, past ones included. Throws when the node ends before; the caller has the deadline. */
  async event(fits: (event: LabEvent) => boolean): Promise<LabEvent> {
    for (;;) {
      const found = this.events.find(fits)
      if (found !== undefined) return found
      if (this.#child.exitCode !== null) throw new Error(`the node on ${this.host} ended: ${this.#stderr}`)
      await new Promise<void>(resolve => this.#waiting.push(resolve))
    }
  }

  /** The id of its process. */
  get pid(): number {
    return this.#child.pid!
  }

  ready(): Promise<LabEvent> {
    return this.event(({ event }) => event === 'ready')
  }

  /** Peers that this node has said it is connected to, by name. */
  get connected(): string[] {
    const names = new Set<string>()
    for (const { event, name } of this.events) {
      if (event === 'peer:connect') names.add(name!)
      if (event === 'peer:disconnect') names.delete(name!)
    }
    return [...names].sort()
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const force = setTimeout(() => this.#child.kill('SIGKILL'), 5000)
    await exit
    clearTimeout(force)
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
