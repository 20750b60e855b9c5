import { EventEmitter } from 'node:events'
import type { BlobRef } from '../../../models/manifest.ts'
import type { LinkState, NodeRecord } from '../../../node/api.ts'
import type { LeaseStream, Peers, PeersEvents } from '../../../node/mesh/peers.ts'
import type { FetchBlobOptions } from '../../../node/weights/fetch.ts'
import { BlobUnavailableError } from '../../../node/weights/fetch.ts'
import { PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'
import { sleep } from './clock.ts'
import { SimulatedLease } from './lease.ts'
import type { SimulatedNode } from './mesh.ts'

/** What one node asks of another; a test can stand in the way of each. */
export type Meeting =
  | 'connect'
  | 'reserve'
  | 'load'
  | 'open'
  | 'close'
  | 'relink'
  | 'renew'
  | 'release'
  | 'frame'
  | 'manifest'
  | 'weights'

/** What happens at a node before it does what it is asked: it may refuse by throwing, take its time, or never end. */
export type Meet = (what: Meeting, from: string) => void | Promise<void>

/** The mesh as one simulated node sees it. */
export class SimulatedPeers implements Peers {
  readonly events = new EventEmitter<PeersEvents>()
  /** Streams that this node has opened. */
  readonly leases = new Set<SimulatedLease>()
  meet: Meet = () => {}
  /** Peers whose links were looked at, in order. */
  readonly glanced: string[] = []
  /** What a look at links finds, or how long it takes. */
  onGlance: () => void | Promise<void> = () => sleep(1)
  /** How often this node was asked what. */
  readonly met = new Map<Meeting, number>()
  readonly #node: SimulatedNode
  /** Frames of one sender arrive in the order in which they were sent. */
  readonly #arriving = new Map<string, Promise<void>>()

  constructor(node: SimulatedNode) {
    this.#node = node
    this.events.setMaxListeners(0)
  }

  get peerId(): string {
    return this.#node.id
  }

  get self(): NodeRecord {
    return this.#node.record
  }

  get known(): Peers['known'] {
    const { mesh, id } = this.#node
    const others = [...mesh.nodes.values()].filter(node => node.id !== id)
    return others.map(node => {
      const connected = !mesh.isGone(node.id) && !mesh.isApart(id, node.id)
      const suspect = mesh.isSilent(node.id) || mesh.isSuspect(id, node.id)
      const there = suspect ? 'suspect' : 'connected'
      return {
        record: node.record,
        state: connected ? there : 'gone',
        connected,
        direct: connected,
        suspect,
        rttMs: 2 * mesh.latencyMs,
        lastSeenMs: mesh.missedMs(node.id)
      }
    })
  }

  get links(): LinkState[] {
    return this.#node.mesh.links
  }

  get apart(): [string, string][] {
    return this.#node.mesh.apartFor(this.#node.id)
  }

  suspects(): Set<string> {
    const away = this.known.filter(({ connected, suspect }) => suspect || !connected)
    return new Set(away.map(({ record }) => record.peerId))
  }

  nameOf(peerId: string): string {
    return peerId
  }

  async measure(_: readonly string[], { signal }: { signal: AbortSignal }): Promise<void> {
    await sleep(1)
    signal.throwIfAborted()
  }

  async glance(peerIds: readonly string[], { signal }: { signal: AbortSignal }): Promise<void> {
    this.glanced.push(...peerIds)
    await this.onGlance()
    signal.throwIfAborted()
  }

  async lease(peerId: string, { signal }: { signal: AbortSignal }): Promise<LeaseStream> {
    const { mesh } = this.#node
    if (mesh.isGone(peerId)) throw new PeerLostError(peerId, 'it cannot be reached')
    const lease = new SimulatedLease(this.#node, mesh.get(peerId))
    this.leases.add(lease)
    await lease.connect(signal)
    return lease
  }

  async send(peerId: string, frame: StageFrame): Promise<void> {
    const { mesh, id } = this.#node
    // A process that was killed sends nothing any more.
    if (!mesh.isRunning(this.#node)) return
    if (mesh.isGone(peerId)) throw new PeerLostError(peerId, `the stream to ${peerId} broke`)
    if (mesh.isApart(id, peerId)) throw new PeerLostError(peerId, `there is no connection to ${peerId}`)
    const to = mesh.get(peerId)
    // Its memory may be used again when this resolves.
    const sent = frame.type === 'hidden' ? { ...frame, hidden: copyOf(frame.hidden) } : frame
    const before = to.peers.#arriving.get(id) ?? Promise.resolve()
    const travelling = sleep(mesh.latencyMs)
    to.peers.#arriving.set(
      id,
      before.then(async () => {
        await travelling
        if (!mesh.isDeaf(peerId, id)) await to.peers.#arrived(id, sent)
      })
    )
  }

  async fetchBlob(
    ref: BlobRef,
    holders: readonly string[],
    put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
    { signal, onProgress }: Omit<FetchBlobOptions, 'link'>
  ): Promise<void> {
    const { mesh, id } = this.#node
    const said: string[] = []
    for (const holder of holders) {
      if (mesh.isGone(holder) || mesh.isApart(id, holder)) {
        said.push(`${holder}: there is no connection to it`)
        continue
      }
      const node = mesh.get(holder)
      if (!node.store.files.has(ref.sha256)) {
        said.push(`${holder}: absent`)
        continue
      }
      await node.peers.meeting('weights', id)
      await sleep(mesh.transferMs(holder, id, ref))
      signal?.throwIfAborted()
      if (mesh.isGone(holder)) {
        said.push(`${holder}: it broke off`)
        continue
      }
      await put((async function* () {})())
      onProgress?.(ref.bytes)
      return
    }
    throw new BlobUnavailableError(
      `weight file ${ref.sha256.slice(0, 12)}: ${said.join('; ') || 'no peer holds it'}`
    )
  }

  async *fetchRaw(peerId: string, sha256: string): AsyncGenerator<Uint8Array> {
    if (this.#node.mesh.isGone(peerId)) throw new PeerLostError(peerId, 'it cannot be reached')
    const node = this.#node.mesh.get(peerId)
    await node.peers.meeting('manifest', this.peerId)
    await sleep(this.#node.mesh.latencyMs)
    const model = node.store.models.get(sha256) ?? node.store.brought.get(sha256)
    if (model === undefined) throw new RemoteError(peerId, 'absent', 'it has no such file')
    yield model.bytes
  }

  /** Counts, and lets the test do what it will. A peer that is silent or gone never answers, and one that sleeps when it wakes. */
  async meeting(what: Meeting, from: string): Promise<void> {
    const { mesh, id } = this.#node
    await mesh.awake(id)
    if (mesh.isDeaf(id, from) || !mesh.isRunning(this.#node)) return await new Promise(() => {})
    if (mesh.isSilent(id) || mesh.isGone(id)) return await new Promise(() => {})
    this.met.set(what, (this.met.get(what) ?? 0) + 1)
    await this.meet(what, from)
    if (mesh.isSilent(id) || mesh.isGone(id)) return await new Promise(() => {})
  }

  /** The connection to a peer broke. */
  lost(peerId: string): void {
    for (const lease of this.leases) if (lease.peerId === peerId) lease.break()
    this.events.emit('lost', peerId, 'the connection to it was lost')
  }

  lostAll(): void {
    for (const lease of this.leases) lease.break()
  }

  async #arrived(from: string, frame: StageFrame): Promise<void> {
    const { mesh, room } = this.#node
    if (mesh.isSilent(from) || mesh.isGone(from)) return
    await mesh.awake(this.peerId)
    if (!mesh.isRunning(this.#node)) return
    // A peer that is gone hears nothing, and holds up no other.
    if (mesh.isSilent(this.peerId) || mesh.isGone(this.peerId)) return
    this.met.set('frame', (this.met.get('frame') ?? 0) + 1)
    await this.meet('frame', from)
    if (mesh.isSilent(this.peerId) || mesh.isGone(this.peerId)) return
    if (frame.type !== 'hidden') return void room.sessions.onFrame(from, frame)
    const memory = room.sessions.allocate(from, frame)
    if (memory === null) return
    memory.set(frame.hidden)
    void room.sessions.onFrame(from, { ...frame, hidden: memory })
  }
}

/** Does something the first time, or another one, that a node is asked for it. */
export function onMeeting(
  node: SimulatedNode,
  what: Meeting,
  act: () => void | Promise<void>,
  nth = 1
): void {
  const { peers } = node
  const before = peers.meet
  const at = (peers.met.get(what) ?? 0) + nth
  peers.meet = async (met, from) => {
    await before(met, from)
    if (met === what && peers.met.get(what) === at) await act()
  }
}

function copyOf(values: Float32Array<SharedArrayBuffer>): Float32Array<SharedArrayBuffer> {
  const copy = new Float32Array(new SharedArrayBuffer(values.byteLength))
  copy.set(values)
  return copy
}
