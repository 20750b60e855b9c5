import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { cp, mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import type { Address } from '../chaos/client.ts'
import { type ChaosMesh, type Device, KEEP_ALIVE_MS } from '../chaos/mesh.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { SECRET } from '../fixtures/nodes.ts'
import { Lab } from '../lab/lab.ts'
import type { LabNode } from '../lab/lab-node.ts'

const run = promisify(execFile)
const RELAY = new URL('../chaos/api-relay.ts', import.meta.url).pathname
const CLOCK = new URL('./clock.ts', import.meta.url).pathname
const API_PORT = 7447
const LINK = { mbps: 1000, latencyMs: 0.25 }
/** Size of each disk, which is in memory as far as it is used. Below 1 GiB nothing of others is kept (KEPT_FREE_BYTES). */
const HOME_BYTES = 8 * 2 ** 30
/** The host on which copies of homes run. */
const SPARE = 'spare'
const UP = ['--threads', '1', '--keep-alive', `${KEEP_ALIVE_MS / 1000}`]
/** What of a home says who a device is, where to find others, and who is in. */
const NOT_COPIED = new Set(['store', 'node.lock', 'node.pid', 'api.json', 'prefix-cache'])

/** A device of the lab, on a disk of its own. */
export class ChurnDevice implements Device {
  readonly name: string
  readonly home: string
  readonly api: string
  peerId = ''
  node: LabNode | undefined
  /** When something was done to its process, until when, by `performance.now()`. */
  readonly struck: { fromMs: number; toMs: number }[] = []

  constructor(name: string, home: string) {
    this.name = name
    this.home = home
    // Beside the home, whose disk may be full, and which is emptied when it joins anew.
    this.api = `${home}.sock`
  }

  get address(): Address {
    return { socketPath: this.api }
  }

  get pid(): number {
    return Number(readFileSync(join(this.home, 'node.pid'), 'utf8'))
  }

  /** Its process is struck from now on, until the returned function says that it is as before. */
  strike(): () => void {
    const stroke = { fromMs: performance.now(), toMs: Number.POSITIVE_INFINITY }
    this.struck.push(stroke)
    return () => {
      stroke.toMs = performance.now()
    }
  }

  wasStruck(sinceMs: number): boolean {
    return this.struck.some(({ toMs }) => toMs >= sinceMs)
  }
}

/** Devices in network namespaces, each with a small disk of its own; found by mDNS. Run in a mount namespace of its own. */
export class ChurnLab implements ChaosMesh {
  readonly devices: ChurnDevice[] = []
  readonly #lab: Lab
  readonly #relays: ChildProcess[] = []
  readonly #drifted = new Map<string, { between: [string, string]; mbps: number; latencyMs: number }>()

  static async create(init: {
    names: readonly string[]
    memoryBytes: number
    holders: number
  }): Promise<ChurnLab> {
    const { names, memoryBytes, holders } = init
    process.env.NODE_OPTIONS = `--import=${CLOCK}`
    const hosts = [...names, SPARE].map(name => ({ name, memory: String(memoryBytes) }))
    const lab = new ChurnLab(await Lab.create({ hosts, links: { default: LINK } }))
    try {
      for (const [at, name] of names.entries()) await lab.#add(name, at < holders)
      return lab
    } catch (error) {
      await lab[Symbol.asyncDispose]()
      throw error
    }
  }

  private constructor(lab: Lab) {
    this.#lab = lab
  }

  async start({ name }: Device): Promise<void> {
    const device = this.#device(name)
    device.node = await this.#lab.up(name, UP)
    device.peerId = (await device.node.ready()).peerId!
  }

  /** Another command line than this checkout's from the next start on; undefined: this one's. */
  use({ name }: Device, cli: string | undefined): void {
    this.#lab.use(name, cli ?? new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname)
  }

  async stop({ name }: Device): Promise<void> {
    await this.#device(name).node?.stop()
  }

  async cli({ name }: Device, args: string[], input?: string): Promise<string> {
    return await this.#lab.cli(name, args, input)
  }

  /** What `one` sends does not arrive at `other` any more, or does again. */
  async mute(one: Device, other: Device, isMute: boolean): Promise<void> {
    const route = ['route', isMute ? 'add' : 'del', 'blackhole', `${this.#lab.address(other.name)}/32`]
    await this.#lab.exec(one.name, 'ip', route)
  }

  unplug({ name }: Device): Promise<void> {
    return this.#lab.unplug(name)
  }

  plug({ name }: Device): Promise<void> {
    return this.#lab.plug(name)
  }

  /** The link of two devices has another rate; null: as it was. */
  async drift(one: Device, other: Device, link: { mbps: number; latencyMs: number } | null): Promise<void> {
    const between: [string, string] = [one.name, other.name]
    if (link === null) this.#drifted.delete(between.join())
    else this.#drifted.set(between.join(), { between, ...link })
    await this.#lab.setLinks({ default: LINK, pairs: [...this.#drifted.values()] })
  }

  /** Sets a device's time of day. */
  async setClock({ home }: Device & { home: string }, offsetMs: number): Promise<void> {
    await writeFile(join(home, 'clock-offset-ms'), String(offsetMs))
  }

  /** A device's disk has room for nothing more. @returns what makes it large again */
  async fillDisk({ home }: { home: string }): Promise<() => Promise<void>> {
    const { blocks, bfree, bsize } = await statfs(home)
    const sized = (bytes: number) => run('mount', ['-o', `remount,size=${bytes}`, home])
    await sized((blocks - bfree) * bsize)
    return async () => void (await sized(HOME_BYTES))
  }

  /** Empties a device's disk and lets it in anew, as another device, by a ticket of `inviter`. */
  async joinAnew({ name, home }: { name: string; home: string }, inviter: Device): Promise<void> {
    for (const file of await readdir(home)) await rm(join(home, file), { recursive: true, force: true })
    const ticket = await this.#lab.cli(inviter.name, ['invite'])
    await this.#lab.cli(name, ['join'], ticket)
  }

  /** Runs a copy of a device's home on another host. */
  async copy({ home }: { home: string }): Promise<LabNode> {
    const copy = this.#lab.home(SPARE)
    await rm(copy, { recursive: true, force: true })
    await mkdir(copy, { recursive: true })
    for (const file of await readdir(home)) {
      if (!NOT_COPIED.has(file)) await cp(join(home, file), join(copy, file), { recursive: true })
    }
    return await this.#lab.up(SPARE, UP)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const relay of this.#relays) relay.kill()
    // Nodes may have files open there: their disks go with them.
    for (const { home } of this.devices) await run('umount', ['--lazy', home])
    await this.#lab.stop()
    delete process.env.NODE_OPTIONS
  }

  #device(name: string): ChurnDevice {
    return this.devices.find(device => device.name === name)!
  }

  async #add(name: string, holdsModel: boolean): Promise<void> {
    const device = new ChurnDevice(name, this.#lab.home(name))
    await mkdir(device.home, { recursive: true })
    await run('mount', ['-t', 'tmpfs', '-o', `size=${HOME_BYTES}`, 'tmpfs', device.home])
    const store = await ModelStore.open(join(device.home, 'store'))
    if (holdsModel) await store.adopt(BUNDLED_DIR)
    await admitHome(device.home, SECRET)
    this.devices.push(device)
    await this.start(device)
    await this.#relay(device)
  }

  async #relay(device: ChurnDevice): Promise<void> {
    const [enter, namespace] = this.#lab.entry(device.name).split(' ')
    const inside = [namespace!, process.execPath, RELAY, device.api, String(API_PORT)]
    const relay = spawn(enter!, inside, { stdio: ['ignore', 'pipe', 'inherit'] })
    this.#relays.push(relay)
    await once(relay.stdout!, 'data')
  }
}
