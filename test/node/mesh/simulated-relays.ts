import { createHash } from 'node:crypto'
import type { OwnNews } from '../../../node/mesh/far-devices.ts'
import { MESH_SIZE, type MeshSize } from '../../../node/mesh/neighbourhood.ts'
import { reachable } from '../../../node/mesh/reachable.ts'
import { Relays } from '../../../node/mesh/relays.ts'
import type { LinkEstimate, SignedRecord, Timers } from '../../../protocols/directory/index.ts'
import { type RelayMessage, signedRecordBytes } from '../../../protocols/directory/index.ts'
import { isViolation } from '../../../protocols/errors.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { record } from './fixtures.ts'

/** A clock that jumps from one thing that is due to the next. */
export class SimulatedTime implements Timers {
  #nowMs = 0
  #count = 0
  readonly #due: { atMs: number; order: number; act: (() => void) | undefined }[] = []

  now(): number {
    return this.#nowMs
  }

  after(ms: number, act: () => void): () => void {
    const entry = { atMs: this.#nowMs + ms, order: this.#count++, act: act as (() => void) | undefined }
    const heap = this.#due
    let at = heap.push(entry) - 1
    for (let up = (at - 1) >> 1; at > 0 && before(heap[at]!, heap[up]!); at = up, up = (at - 1) >> 1)
      [heap[at], heap[up]] = [heap[up]!, heap[at]!]
    return () => {
      entry.act = undefined
    }
  }

  /** Lets so much time pass, or less where something is as it should be before, which is looked at now and then. @returns whether it is */
  pass(ms: number, until: () => boolean = () => false, everyMs = 10): boolean {
    const endMs = this.#nowMs + ms
    for (let lookMs = this.#nowMs; ; ) {
      if (this.#nowMs >= lookMs) {
        if (until()) return true
        lookMs = this.#nowMs + everyMs
      }
      const next = this.#due[0]
      if (next === undefined || next.atMs > endMs) {
        this.#nowMs = endMs
        return until()
      }
      this.#pop()
      this.#nowMs = next.atMs
      next.act?.()
    }
  }

  #pop(): void {
    const heap = this.#due
    const last = heap.pop()!
    if (heap.length === 0) return
    heap[0] = last
    for (let at = 0; ; ) {
      let least = at
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < heap.length && before(heap[child]!, heap[least]!)) least = child
      if (least === at) return
      ;[heap[at], heap[least]] = [heap[least]!, heap[at]!]
      at = least
    }
  }
}

function before(a: { atMs: number; order: number }, b: { atMs: number; order: number }): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

export interface SimulatedInit {
  size?: MeshSize
  /** One way, in ms. @default 2 to 10, drawn for each connection */
  latencyMs?: () => number
}

/** A signature that costs little, and that nobody here forges. */
function signatureOf(peerId: string, bytes: Uint8Array): string {
  return createHash('sha512').update(peerId).update(bytes).digest('base64url')
}

/** Bytes that yamux, noise, TCP, IP and Ethernet put around a message on the wire. */
export const BELOW_MESSAGE_BYTES = 12 + 18 + 66
const LENGTH_BYTES = 4
/** A connection to who says nothing any more ends after this, and counts as silent before. */
const SILENT_MS = 3000
const GONE_MS = 15_000
/** What clocks say when a simulation begins. */
const START_MS = 1_700_000_000_000
/** A dial, the handshake and the meeting. */
const CONNECT_MS = 40

export interface SimulatedDevice {
  readonly peerId: string
  readonly relays: Relays
  freeBytes: number
  /** What it has measured. */
  links: Record<string, LinkEstimate>
  sentBytes: number
  receivedBytes: number
  /** Peers that broke the rules, as this one saw it. */
  readonly violators: string[]
  readonly inUse: Set<string>
  /** It has no signed records: an older version. */
  isOld: boolean
}

interface Inside extends SimulatedDevice {
  own(): OwnNews
  connections: Map<string, { latencyMs: number; silentSinceMs: number | undefined }>
  isHung: boolean
  knows: Set<string>
}

/**
 * Devices with the real `Relays` and simulated streams and time. Announcements reach everybody at once, as by mDNS; what
 * discovery does is dial whom it hears of, where `Relays` lets it.
 */
export class SimulatedLargeMesh {
  readonly time = new SimulatedTime()
  readonly #devices = new Map<string, Inside>()
  readonly #init: SimulatedInit
  readonly #dialling = new Set<string>()
  readonly out = new Set<string>()
  /** Devices that no owner has let in. */
  readonly guests = new Set<string>()
  /** What a device that lies says of its neighbours. */
  readonly neighboursSaid = new Map<string, (peerIds: string[]) => string[]>()
  /** Hears of every message. */
  onSent: (by: string, message: RelayMessage) => void = () => {}
  /** Records that a device that lies sends instead of those that it has. */
  readonly #forged = new Map<string, SignedRecord[]>()
  /** Which side of a partition a device is on. */
  sideOf: (peerId: string) => number = () => 0

  constructor(init: SimulatedInit = {}) {
    this.#init = init
  }

  get devices(): SimulatedDevice[] {
    return [...this.#devices.values()]
  }

  /** A device starts, and hears of all the others. */
  add(
    name: string,
    {
      isOld = false,
      wallMs = () => START_MS + this.time.now()
    }: { isOld?: boolean; wallMs?: () => number } = {}
  ): SimulatedDevice {
    const peerId = peerIdOf(name)
    const { time } = this
    const device: Inside = {
      peerId,
      freeBytes: 1000,
      links: {},
      sentBytes: 0,
      receivedBytes: 0,
      violators: [],
      inUse: new Set(),
      isOld,
      connections: new Map(),
      isHung: false,
      knows: new Set(),
      own: () => ({
        record: {
          ...record(name),
          peerId,
          sequence: 1,
          leases: [],
          links: device.links,
          memory: { budgetBytes: 2000, freeBytes: device.freeBytes }
        },
        addresses: [`/ip4/10.0.0.1/tcp/${1024 + this.#devices.size}`],
        epoch: 0
      })
    } as Omit<Inside, 'relays'> as Inside
    const relays = new Relays({
      peerId,
      mesh: 'test',
      size: this.#init.size ?? MESH_SIZE,
      timers: time,
      wallMs,
      sign: bytes => signatureOf(peerId, bytes),
      isSigned: (id, bytes, signature) => signature === signatureOf(id, bytes),
      isIn: id => !this.out.has(id),
      isOwners: id => !this.guests.has(id),
      own: () => device.own(),
      connected: () => {
        const peerIds = [...device.connections.keys()]
        return this.neighboursSaid.get(peerId)?.(peerIds) ?? peerIds
      },
      silent: () =>
        [...device.connections].flatMap(([id, { silentSinceMs }]) =>
          silentSinceMs !== undefined && time.now() - silentSinceMs > SILENT_MS ? [id] : []
        ),
      dialable: () => [...device.knows],
      isInUse: id => device.inUse.has(id),
      isFailing: () => false,
      dial: id => this.#dial(device, id),
      part: id => this.#cut(device, id),
      send: (id, message) => this.#send(device, id, message),
      onChange: id => device.knows.add(id)
    })
    Object.assign(device, { relays })
    this.#devices.set(peerId, device)
    for (const other of this.#devices.values()) {
      if (other === device) continue
      other.knows.add(peerId)
      device.knows.add(other.peerId)
    }
    this.#discover(device)
    return device
  }

  /** What discovery does: everybody that is known and not connected is dialled again and again, where that may be. */
  #discover(device: Inside): void {
    if (this.#devices.get(device.peerId) !== device) return
    for (const id of device.knows) {
      if (device.isOld || device.relays.mayDial(id, this.#underWay(device)) || this.#devices.get(id)?.isOld)
        this.#dial(device, id)
    }
    this.time.after(2000 + Math.random() * 1000, () => this.#discover(device))
  }

  /** The device is gone, and its connections with it. */
  crash(peerId: string): void {
    const device = this.#devices.get(peerId)!
    this.#devices.delete(peerId)
    device.relays.stop()
    for (const id of [...device.connections.keys()]) this.#ended(this.#devices.get(id), peerId)
    device.connections.clear()
  }

  /** The device says nothing any more, and its connections stand until others give them up. */
  hang(peerId: string): void {
    const device = this.#devices.get(peerId)!
    this.#devices.delete(peerId)
    device.isHung = true
    device.relays.stop()
    for (const id of device.connections.keys()) {
      const connection = this.#devices.get(id)?.connections.get(peerId)
      if (connection) connection.silentSinceMs = this.time.now()
      this.time.after(GONE_MS, () => this.#ended(this.#devices.get(id), peerId))
    }
  }

  /** The network is cut, or whole again, as `sideOf` says: what crosses it falls silent. */
  partition(sideOf: (peerId: string) => number): void {
    this.sideOf = sideOf
    for (const device of this.#devices.values())
      for (const [id, connection] of device.connections) {
        if (sideOf(id) === sideOf(device.peerId)) continue
        connection.silentSinceMs ??= this.time.now()
        this.time.after(GONE_MS, () => {
          if (device.connections.get(id) === connection) this.#ended(device, id)
        })
      }
  }

  degreeOf({ peerId }: SimulatedDevice): number {
    return this.#devices.get(peerId)!.connections.size
  }

  /** Whether a device takes another one to be there. */
  sees({ peerId, relays }: SimulatedDevice, other: string): boolean {
    const connection = this.#devices.get(peerId)!.connections.get(other)
    if (connection !== undefined && connection.silentSinceMs === undefined) return true
    return relays.get(other)?.state === 'connected'
  }

  /** Whether all devices see all others. */
  get isWhole(): boolean {
    return this.devices.every(device =>
      this.devices.every(({ peerId }) => peerId === device.peerId || this.sees(device, peerId))
    )
  }

  /** The free memory of `of` as a device knows it. */
  freeBytesOf(of: SimulatedDevice, { peerId, relays }: SimulatedDevice): number | undefined {
    // Neighbours have it on their own stream as well.
    if (this.#devices.get(peerId)!.connections.has(of.peerId)) return of.freeBytes
    return relays.get(of.peerId)?.record.memory.freeBytes
  }

  /** Changes what a device says of itself. @returns how long it takes until all know it, in ms */
  changeOf(device: SimulatedDevice, limitMs = 60_000): number {
    device.freeBytes = Math.floor(Math.random() * 1000)
    device.relays.changed()
    const startMs = this.time.now()
    const others = this.devices.filter(other => other !== device)
    const known = this.time.pass(limitMs, () =>
      others.every(other => this.freeBytesOf(device, other) === device.freeBytes)
    )
    return known ? this.time.now() - startMs : Number.POSITIVE_INFINITY
  }

  /** Hands a message to a device as if a neighbour had sent it. */
  deliver(from: SimulatedDevice, to: SimulatedDevice, message: RelayMessage): void {
    this.#send(from as Inside, to.peerId, message)
  }

  /** A device says that it has records, and sends these when it is asked for them. */
  lie(from: SimulatedDevice, to: SimulatedDevice, message: RelayMessage, records: SignedRecord[]): void {
    this.#forged.set(`${from.peerId} ${to.peerId}`, records)
    this.#send(from as Inside, to.peerId, message)
  }

  /** A device is put out: all that are in part from it. */
  ban(peerId: string): void {
    this.out.add(peerId)
    for (const device of this.#devices.values()) {
      if (device.peerId === peerId) continue
      device.relays.membershipChanged()
      this.#cut(device, peerId)
    }
  }

  /** Whether a path of connections between these devices alone leads from each to each. */
  isOnePiece(devices: readonly SimulatedDevice[]): boolean {
    const among = new Set(devices.map(({ peerId }) => peerId))
    const edges = new Map(
      [...among].map(id => [
        id,
        new Set([...this.#devices.get(id)!.connections.keys()].filter(to => among.has(to)))
      ])
    )
    return reachable(devices[0]!.peerId, edges.get(devices[0]!.peerId)!, edges).size === devices.length
  }

  areConnected(a: SimulatedDevice, b: SimulatedDevice): boolean {
    return this.#devices.get(a.peerId)!.connections.has(b.peerId)
  }

  neighboursOf({ peerId }: SimulatedDevice): SimulatedDevice[] {
    return [...this.#devices.get(peerId)!.connections.keys()].flatMap(id => this.#devices.get(id) ?? [])
  }

  /** Two that are connected. */
  someNeighbours(): [SimulatedDevice, SimulatedDevice] {
    const [one] = this.devices.filter(({ peerId }) => !this.out.has(peerId))
    return [one!, this.neighboursOf(one!)[0]!]
  }

  /** What a device says of itself, as it would be handed on. */
  recordOf(device: SimulatedDevice, serial: number): SignedRecord {
    const { own, connections } = this.#devices.get(device.peerId)!
    return this.signed(device, serial, JSON.stringify({ ...own(), neighbours: [...connections.keys()] }))
  }

  signed(device: SimulatedDevice, serial: number, text: string): SignedRecord {
    const unsigned = { device: device.peerId, serial, text }
    return { ...unsigned, signature: signatureOf(device.peerId, signedRecordBytes('test', unsigned)) }
  }

  #underWay({ peerId }: Inside): string[] {
    return [...this.#dialling].flatMap(pair => (pair.startsWith(peerId) ? [pair.split(' ')[1]!] : []))
  }

  #dial(device: Inside, id: string): void {
    const pair = `${device.peerId} ${id}`
    if (id === device.peerId || device.connections.has(id) || this.#dialling.has(pair)) return
    this.#dialling.add(pair)
    this.time.after(CONNECT_MS, () => {
      this.#dialling.delete(pair)
      const other = this.#devices.get(id)
      if (other === undefined || this.#devices.get(device.peerId) !== device) return
      if (device.connections.has(id) || this.sideOf(id) !== this.sideOf(device.peerId)) return
      if (this.out.has(id) || this.out.has(device.peerId)) return
      const latencyMs = this.#init.latencyMs?.() ?? 2 + 8 * Math.random()
      for (const [one, another] of [
        [device, other],
        [other, device]
      ] as const) {
        one.connections.set(another.peerId, { latencyMs, silentSinceMs: undefined })
        if (!one.isOld && !another.isOld) one.relays.opened(another.peerId)
        else one.relays.changed()
      }
    })
  }

  #cut(device: Inside, id: string): void {
    this.#ended(device, id)
    const other = this.#devices.get(id)
    this.time.after(5, () => this.#ended(other, device.peerId))
  }

  #ended(device: Inside | undefined, id: string): void {
    if (device?.connections.delete(id)) device.relays.disconnected(id)
  }

  #send(device: Inside, id: string, message: RelayMessage): void {
    const connection = device.connections.get(id)
    if (connection === undefined) return
    this.onSent(device.peerId, message)
    const bytes = Buffer.byteLength(JSON.stringify(message)) + LENGTH_BYTES + BELOW_MESSAGE_BYTES
    device.sentBytes += bytes
    this.time.after(connection.latencyMs, () => {
      const other = this.#devices.get(id)
      const back = other?.connections.get(device.peerId)
      if (other === undefined || back === undefined || back.silentSinceMs !== undefined) return
      other.receivedBytes += bytes
      if (device.isHung) return
      const forged = this.#forged.get(`${id} ${device.peerId}`)
      if (message.type === 'want' && forged !== undefined) {
        this.#forged.delete(`${id} ${device.peerId}`)
        this.#send(other, device.peerId, { type: 'signed', records: forged })
        return
      }
      try {
        other.relays.heard(device.peerId, message)
      } catch (error) {
        if (!isViolation(error as Error)) throw error
        other.violators.push(device.peerId)
        other.relays.closed(device.peerId)
      }
    })
  }
}
