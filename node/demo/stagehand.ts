import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DemoError } from './errors.ts'
import { edgeshard, NodeProcess } from './node-process.ts'
import { Patience } from './patience.ts'

/** What a node that ends leaves its peers to say so themselves: their error names the layers that are lost. */
const GRACE_MS = 8_000

/** Starts the demo's nodes, watches that none of them ends, and clears everything away. */
export class Stagehand {
  /** Aborts when the caller's does, and a little after a node has ended, with an error that names it. */
  readonly signal: AbortSignal
  readonly #dir: string
  readonly #ended = new AbortController()
  readonly #running: NodeProcess[] = []
  /** Process ids of those that were to end. */
  readonly #lost = new Set<number>()
  #clearing = false
  #patience = new Patience(0)

  constructor(dir: string, signal: AbortSignal) {
    this.#dir = dir
    this.signal = AbortSignal.any([signal, this.#ended.signal])
  }

  /**
   * Starts the node of the first name, which admits the others one by one, and then theirs, side by side; they still have
   * to find each other. Measures the machine, too.
   */
  async startMesh(
    [first, ...others]: readonly string[],
    args: (name: string) => string[]
  ): Promise<{ nodes: NodeProcess[]; patience: Patience }> {
    const { signal } = this
    const startMs = performance.now()
    const home = this.homeOf(first!)
    // A ticket that is made before the node runs has no addresses: this one only says how long a command takes.
    await ticketOf(home, signal)
    this.#patience = new Patience(performance.now() - startMs)
    const nodes = await this.start([first!], args)
    nodes.push(...(await this.join(home, others, args)))
    return { nodes, patience: this.#patience }
  }

  /** Has the node of this home admit others one by one, and starts them side by side. */
  async join(
    home: string,
    names: readonly string[],
    args: (name: string) => string[]
  ): Promise<NodeProcess[]> {
    const { signal } = this
    for (const name of names) {
      await edgeshard(['join', await ticketOf(home, signal), '--home', this.homeOf(name)], { signal })
    }
    return await this.start(names, args)
  }

  /** Kills a node, which is to be missed by its peers alone. */
  async lose(node: NodeProcess): Promise<void> {
    this.#lost.add(node.pid)
    process.kill(node.pid, 'SIGKILL')
    await node.exited
  }

  /** Starts a node for each name, side by side; `args` are its options besides home, name and ports. */
  async start(names: readonly string[], args: (name: string) => string[]): Promise<NodeProcess[]> {
    const { signal } = this
    const readyTimeoutMs = this.#patience.readyMs
    const started = await Promise.allSettled(
      names.map(async name => {
        const own = ['--home', this.homeOf(name), '--name', name, '--port', '0', '--api', '127.0.0.1:0']
        const node = await NodeProcess.start([...own, ...args(name)], { signal, readyTimeoutMs })
        this.#running.push(node)
        void node.exited.then(how => {
          if (!this.#lost.has(node.pid)) this.#onExit(`${name} (process ${node.pid}) ${how}`)
        })
        return node
      })
    )
    return started.map(result => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
  }

  /** Stops every node and removes their homes. */
  async clear(): Promise<void> {
    this.#clearing = true
    await Promise.allSettled(this.#running.map(node => node.stop()))
    await rm(this.#dir, { recursive: true, force: true })
  }

  homeOf(name: string): string {
    return join(this.#dir, name)
  }

  #onExit(what: string): void {
    setTimeout(() => {
      if (!this.#clearing) this.#ended.abort(new DemoError(what))
    }, GRACE_MS).unref()
  }
}

async function ticketOf(home: string, signal: AbortSignal): Promise<string> {
  const { ticket } = JSON.parse(await edgeshard(['invite', '--json', '--home', home], { signal }))
  return ticket
}
