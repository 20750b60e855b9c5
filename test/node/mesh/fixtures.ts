import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createMesh, type Mesh, type MeshHandlers, type MeshInit } from '../../../node/mesh/index.ts'
import { admitHome } from '../../fixtures/admitted.ts'

export const SECRET = new Uint8Array(32).fill(7)

export function record(name: string): MeshInit['record'] {
  return {
    name,
    version: '0.1.0',
    hardware: { platform: 'linux', arch: 'x64', cpu: 'test', cores: 2, totalMemoryBytes: 2 ** 30 },
    memory: { budgetBytes: 1000, freeBytes: 1000 },
    models: [],
    profiles: {}
  }
}

/** Handlers that hold nothing, so a test only writes those it is about. */
export function idle(handlers: Partial<MeshHandlers> = {}): MeshHandlers {
  return {
    stage: { allocate: () => null, onFrame: () => {}, onLost: () => {} },
    leases: {
      reserve: () => ({ type: 'refused', code: 'memory', reason: 'no memory' }),
      stand: () => ({ type: 'refused', code: 'memory', reason: 'no memory' }),
      load: async () => {},
      relink: () => {},
      open: async () => ({}),
      close: () => {},
      renew: () => ({ expiresInMs: 1000 }),
      release: () => {}
    },
    weights: { open: async () => null },
    ...handlers
  }
}

/** Meshes in homes of their own, all stopped and removed by `stop`. */
export class Meshes {
  readonly #meshes: Mesh[] = []
  readonly #homes: string[] = []

  /** A home of a member, or with null a new one. */
  async home(secret: Uint8Array | null = SECRET, options: { owner?: boolean } = {}): Promise<string> {
    const home = await mkdtemp(join(tmpdir(), 'edgeshard-mesh-'))
    this.#homes.push(home)
    if (secret) await admitHome(home, secret, options)
    return home
  }

  /** A started mesh on loopback without mDNS, unless the options say otherwise. */
  async add(
    name: string,
    options: Partial<MeshInit> & {
      handlers?: Partial<MeshHandlers>
      secret?: Uint8Array
      owner?: boolean
    } = {}
  ): Promise<Mesh> {
    const { handlers, secret = SECRET, owner = false, ...init } = options
    const home = init.home ?? (await this.home(secret, { owner }))
    const mesh = await createMesh({ listen: '127.0.0.1', mdns: false, record: record(name), ...init, home })
    this.#meshes.push(mesh)
    await mesh.start(idle(handlers))
    return mesh
  }

  /** `count` meshes that all know each other. */
  async connected(
    names: string[],
    handlers: Partial<MeshHandlers>[] = [],
    { owner = false }: { owner?: boolean } = {}
  ): Promise<Mesh[]> {
    const meshes: Mesh[] = []
    for (const [i, name] of names.entries()) {
      const peers = meshes.slice(0, 1).flatMap(mesh => mesh.addresses)
      meshes.push(await this.add(name, { peers, owner, ...(handlers[i] && { handlers: handlers[i] }) }))
    }
    for (const mesh of meshes) await until(() => mesh.peers.length === names.length - 1)
    return meshes
  }

  /** Stops the meshes; their homes stay until `stop`. */
  async stopAll(): Promise<void> {
    await Promise.all(this.#meshes.splice(0).map(mesh => mesh.stop()))
  }

  async stop(): Promise<void> {
    await this.stopAll()
    await Promise.all(this.#homes.splice(0).map(home => rm(home, { recursive: true, force: true })))
  }
}

/** Waits for a condition; the test's own timeout is the deadline. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5))
}
