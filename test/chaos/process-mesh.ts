import { NodeProcess } from '../../node/demo/node-process.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { Nodes, SECRET } from '../fixtures/nodes.ts'
import type { Address } from './client.ts'
import { type ChaosMesh, type Device, KEEP_ALIVE_MS } from './mesh.ts'

interface Init {
  names: readonly string[]
  /** Value of `up --memory` for each. */
  memoryBytes: number
  /** How many of them start with the bundled model; the others fetch layers. */
  holders: number
}

class ProcessDevice implements Device {
  readonly name: string
  readonly home: string
  node!: NodeProcess

  constructor(name: string, home: string) {
    this.name = name
    this.home = home
  }

  get peerId(): string {
    return this.node.peerId
  }

  get pid(): number {
    return this.node.pid
  }

  get address(): Address {
    return { port: Number(new URL(this.node.api).port) }
  }

  /** The port for peers, the same after a restart, as on a device that people own. */
  get port(): string {
    return /\/tcp\/(\d+)/.exec(this.node.addresses[0]!)![1]!
  }
}

/** Nodes on this machine, each a process of its own started from the command line, on loopback without mDNS. */
export class ProcessMesh implements ChaosMesh {
  readonly devices: ProcessDevice[] = []
  readonly #homes = new Nodes()
  readonly #init: Init

  private constructor(init: Init) {
    this.#init = init
  }

  static async create(init: Init): Promise<ProcessMesh> {
    const mesh = new ProcessMesh(init)
    try {
      const [first, ...others] = init.names
      await mesh.#add(first!)
      // Nodes that met through one address get to know each other.
      await Promise.all(others.map(name => mesh.#add(name)))
      mesh.devices.sort((a, b) => init.names.indexOf(a.name) - init.names.indexOf(b.name))
      return mesh
    } catch (error) {
      await mesh[Symbol.asyncDispose]()
      throw error
    }
  }

  async start(device: Device): Promise<void> {
    const own = this.devices.find(({ name }) => name === device.name)!
    own.node = await this.#up(own, own.port)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.devices.map(({ node }) => node.stop()))
    await this.#homes[Symbol.asyncDispose]()
  }

  async #add(name: string): Promise<void> {
    const device = new ProcessDevice(name, await this.#homes.home(SECRET))
    device.node = await this.#up(device, '0')
    this.devices.push(device)
  }

  #up({ name, home }: ProcessDevice, port: string): Promise<NodeProcess> {
    const { names, memoryBytes, holders } = this.#init
    const others = this.devices.filter(device => device.name !== name)
    const args = [
      ...['--home', home, '--name', name, '--port', port, '--api', '127.0.0.1:0', '--no-mdns'],
      ...['--memory', String(memoryBytes), '--threads', '1', '--keep-alive', `${KEEP_ALIVE_MS / 1000}`],
      ...(names.indexOf(name) < holders ? [] : ['--no-bundled']),
      ...others.flatMap(({ node }) => ['--peer', node.addresses[0]!])
    ]
    return NodeProcess.start(args, { readyTimeoutMs: deadlineMs(20_000) })
  }
}
