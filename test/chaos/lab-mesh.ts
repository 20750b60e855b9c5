import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { SECRET } from '../fixtures/nodes.ts'
import { Lab } from '../lab/lab.ts'
import type { Address } from './client.ts'
import { type Cables, type ChaosMesh, type Device, KEEP_ALIVE_MS } from './mesh.ts'

const RELAY = new URL('./api-relay.ts', import.meta.url).pathname
const API_PORT = 7447

interface Init {
  names: readonly string[]
  memoryBytes: number
  /** How many of them start with the bundled model; the others fetch layers. */
  holders: number
  link: { mbps: number; latencyMs: number }
}

class LabDevice implements Device {
  readonly name: string
  readonly home: string
  peerId = ''

  constructor(name: string, home: string) {
    this.name = name
    this.home = home
  }

  get address(): Address {
    return { socketPath: join(this.home, 'api.sock') }
  }

  get pid(): number {
    return Number(readFileSync(join(this.home, 'node.pid'), 'utf8'))
  }
}

/** Devices in network namespaces, with links that can be unplugged and slowed; found by mDNS. */
export class LabMesh implements ChaosMesh {
  readonly devices: LabDevice[] = []
  readonly cables: Cables
  readonly #lab: Lab
  readonly #relays: ChildProcess[] = []

  static async create(init: Init): Promise<LabMesh> {
    const { names, memoryBytes, holders, link } = init
    const hosts = names.map(name => ({ name, memory: String(memoryBytes) }))
    const lab = await Lab.create({ hosts, links: { default: link } })
    const mesh = new LabMesh(lab, link)
    try {
      for (const [at, name] of names.entries()) await mesh.#add(name, at < holders)
      return mesh
    } catch (error) {
      await mesh[Symbol.asyncDispose]()
      throw error
    }
  }

  private constructor(lab: Lab, link: Init['link']) {
    this.#lab = lab
    this.cables = {
      unplug: ({ name }) => lab.unplug(name),
      plug: ({ name }) => lab.plug(name),
      slow: async ({ name }, slower) => {
        const others = this.devices.filter(device => device.name !== name)
        const pairs = slower === null ? [] : others.map(other => ({ between: pair(name, other), ...slower }))
        await lab.setLinks({ default: link, pairs })
      }
    }
  }

  async start({ name }: Device): Promise<void> {
    await this.#lab.up(name, ['--threads', '1', '--keep-alive', `${KEEP_ALIVE_MS / 1000}`])
  }

  /** Two devices cannot reach each other, or can again; all others reach both. */
  async part(one: string, other: string, { again = false } = {}): Promise<void> {
    const change = again ? 'del' : 'add'
    for (const [host, to] of [
      [one, other],
      [other, one]
    ] as const)
      await this.#lab.exec(host, 'ip', ['route', change, 'blackhole', `${this.#lab.address(to)}/32`])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const relay of this.#relays) relay.kill()
    await this.#lab.stop()
  }

  async #add(name: string, holdsModel: boolean): Promise<void> {
    const device = new LabDevice(name, this.#lab.home(name))
    const store = await ModelStore.open(join(device.home, 'store'))
    if (holdsModel) await store.adopt(BUNDLED_DIR)
    await admitHome(device.home, SECRET)
    const node = await this.#lab.up(name, ['--threads', '1', '--keep-alive', `${KEEP_ALIVE_MS / 1000}`])
    device.peerId = (await node.ready()).peerId!
    await this.#relay(device)
    this.devices.push(device)
  }

  async #relay(device: LabDevice): Promise<void> {
    const [enter, namespace] = this.#lab.entry(device.name).split(' ')
    const inside = [namespace!, process.execPath, RELAY, join(device.home, 'api.sock'), String(API_PORT)]
    const relay = spawn(enter!, inside, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#relays.push(relay)
    await once(relay.stdout!, 'data')
  }
}

function pair(name: string, other: Device): [string, string] {
  return [name, other.name]
}
