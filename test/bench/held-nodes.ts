import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runningNode } from '../../node/cli/api-client.ts'
import { PROFILE_AGAIN_MS } from '../../node/constants.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { SECRET, until } from '../fixtures/nodes.ts'
import { createQuota } from '../lab/cpu-quota.ts'
import { LabNode } from '../lab/lab-node.ts'

const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
/** Shortest that the kernel takes: stages are slow all the time, not in bursts. */
const QUOTA_US = 1000
/** The second timing takes no longer. */
const PROFILE_MS = 10_000

export interface HeldNodesInit {
  /** Where homes are made. */
  folder: string
  /** A store that each of them gets a copy of. */
  storeDir: string
  names: readonly string[]
  /** What each gives for stages. */
  memoryBytes: number
  /** Share of a processor that each process is held to; 0: none. */
  cpus: number
}

/**
 * Nodes of one mesh in processes of their own on loopback, with one compute thread each, which control groups hold to a share of
 * a processor where that is permitted: where there is no processor for each of them, they would take each other's time.
 */
export class HeldNodes implements AsyncDisposable {
  readonly #init: HeldNodesInit
  readonly #nodes: LabNode[] = []
  readonly #quotas: { remove(): Promise<void> }[] = []

  private constructor(init: HeldNodesInit) {
    this.#init = init
  }

  /** Starts them, and waits until all have timed a layer twice: the start of a node disturbs the first timing. */
  static async start(init: HeldNodesInit): Promise<HeldNodes> {
    const nodes = new HeldNodes(init)
    try {
      const addresses: string[] = []
      for (const name of init.names) addresses.push(await nodes.#add(name, addresses))
      await nodes.#timed()
      return nodes
    } catch (error) {
      await nodes[Symbol.asyncDispose]()
      throw error
    }
  }

  /** The home of the first of them, which is asked. */
  get home(): string {
    return this.#home(this.#init.names[0]!)
  }

  /** What each process is held to, of one processor; null: all that it can get. */
  get cpus(): number | null {
    return this.#quotas.length === 0 ? null : this.#init.cpus
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#nodes.map(node => node.stop()))
    for (const quota of this.#quotas) await quota.remove()
  }

  #home(name: string): string {
    return join(this.#init.folder, name)
  }

  /** @returns an address of the node that was added, which knows those before it */
  async #add(name: string, addresses: readonly string[]): Promise<string> {
    const { storeDir, memoryBytes, cpus } = this.#init
    const home = this.#home(name)
    await cp(storeDir, join(home, 'store'), { recursive: true })
    await admitHome(home, SECRET)
    const group = `edgeshard-bench-${process.pid}-${name}`
    const quota = cpus === 0 ? null : await createQuota(group, cpus, Math.round(QUOTA_US / cpus))
    if (quota !== null) this.#quotas.push(quota)
    const enter = quota === null ? '' : `echo $$ > ${quota.procs}; `
    const options = ['--home', home, '--name', name, '--memory', String(Math.ceil(memoryBytes))]
    const where = ['--port', '0', '--api', '127.0.0.1:0', '--no-mdns', '--threads', '1']
    const peers = addresses.flatMap(address => ['--peer', address])
    const up = [process.execPath, CLI, 'up', '--json', ...options, ...where, ...peers]
    const node = new LabNode(name, 'sh', ['-c', `${enter}exec "$@"`, 'sh', ...up])
    this.#nodes.push(node)
    return (await node.ready()).addresses![0]!
  }

  async #timed(): Promise<void> {
    await until(async () => {
      const { self, peers } = await (await runningNode({ home: this.home })).mesh()
      const members = [self, ...peers]
      return (
        members.length === this.#init.names.length &&
        members.every(({ profiles }) => Object.keys(profiles).length > 0)
      )
    })
    await delay(PROFILE_AGAIN_MS + PROFILE_MS)
  }
}
