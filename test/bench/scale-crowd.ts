/**
 * Devices that a real node takes for a mesh of many: each is a libp2p host with a key of its own that proves its admission, beats,
 * serves the links protocol and hands on signed records. Who among them is connected to whom is drawn, and what they would
 * tell each other is known to all of them at once.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import type { LinkEstimate, NodeRecord } from '../../node/api.ts'
import { isListenAddress, splitAddress } from '../../node/mesh/contacts.ts'
import { REFRESH_MS } from '../../node/mesh/far-devices.ts'
import { Host } from '../../node/mesh/host.ts'
import { Meetings } from '../../node/mesh/meetings.ts'
import { meshKeys } from '../../node/mesh/membership.ts'
import { MESH_SIZE } from '../../node/mesh/neighbourhood.ts'
import { signedRoll } from '../../node/mesh/signed-roll.ts'
import { type Signer, signerOf } from '../../node/mesh/signing.ts'
import {
  createDirectoryService,
  type DirectoryService,
  Exchange,
  type SignedRecord,
  signedRecordBytes,
  type Timers
} from '../../protocols/directory/index.ts'
import { isViolation } from '../../protocols/errors.ts'
import { createLinkService, type LinkService } from '../../protocols/links/index.ts'
import {
  createMembershipService,
  type MembershipService,
  type Statement
} from '../../protocols/membership/index.ts'
import { admittedMembership, testMesh } from '../fixtures/admitted.ts'
import { prng } from '../fixtures/prng.ts'
import { record, SECRET } from '../node/mesh/fixtures.ts'
import { rawHandlers } from '../node/mesh/raw-member.ts'

/** Devices that choose the node, besides those that it chooses: with both it has as many neighbours as most have. */
const CHOOSERS = 5
/** A device measures each of its links twice an hour, and so does the other end: as often it has something new to say. */
const LINK_CHANGE_MS = 1_800_000
/** What a change takes on its way, as simulated. */
const SPREAD_MS = [20, 150] as const
/** Round trips, which are for neighbours alone, are other ones so often. */
const DETAILS_MS = 60_000
const MEASURE_AFTER_MS = 3000
const CONNECTED_LIMIT_MS = 60_000

const TIMERS: Timers = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms)
    return () => clearTimeout(timer)
  }
}

/** All devices of a mesh but the one that is measured. */
export class Crowd implements AsyncDisposable {
  readonly devices: CrowdDevice[] = []
  readonly statements: Statement[] = []
  readonly mesh: string
  readonly isLarge: boolean
  readonly #random: () => number
  readonly #timers = new Set<NodeJS.Timeout>()

  private constructor(mesh: string, count: number) {
    this.mesh = mesh
    this.isLarge = count + 1 > MESH_SIZE.border
    this.#random = prng(count)
  }

  /** @param count of devices, the measured one not among them */
  static async start(count: number): Promise<Crowd> {
    const { mesh } = await testMesh(SECRET)
    const crowd = new Crowd(mesh, count)
    const keys: { key: PrivateKey; signer: Signer }[] = []
    for (let i = 0; i < count; i++) {
      const key = await generateKeyPair('Ed25519')
      const signer = signerOf(key)
      keys.push({ key, signer })
      crowd.statements.push(...(await admittedMembership(SECRET, signer.peerId)).statements)
    }
    for (const [i, { key, signer }] of keys.entries())
      crowd.devices.push(await CrowdDevice.start(crowd, { key, signer, name: `device ${i}` }))
    crowd.#connect()
    for (const device of crowd.devices) {
      device.sign()
      crowd.#signAgain(device)
    }
    return crowd
  }

  /** Connects to the node those that have chosen it: in a small mesh all of them. */
  async join(address: string): Promise<void> {
    const choosers = this.isLarge ? this.devices.slice(0, CHOOSERS) : this.devices
    for (const device of choosers) {
      device.hasChosen = true
      await device.dial(address)
    }
    const deadline = AbortSignal.timeout(CONNECTED_LIMIT_MS)
    while (choosers.some(device => device.met === undefined)) await delay(50, undefined, { signal: deadline })
  }

  /** Those that are connected to the node. */
  get neighbours(): CrowdDevice[] {
    return this.devices.filter(({ met }) => met !== undefined)
  }

  deviceOf(peerId: string): CrowdDevice | undefined {
    return this.devices.find(device => device.peerId === peerId)
  }

  /** All that are connected to the node hear of what a device has signed, one after the other. */
  spread(device: string): void {
    const [least, most] = SPREAD_MS
    for (const neighbour of this.neighbours)
      this.#later(least + (most - least) * Math.random(), () => neighbour.exchange.spread(device))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all(this.devices.map(device => device.stop()))
  }

  #connect(): void {
    for (const device of this.devices) {
      const others = this.devices.filter(other => other !== device)
      const chosen = this.isLarge ? MESH_SIZE.chosen : others.length
      for (let i = 0; i < chosen; i++) {
        const [other] = others.splice(Math.floor(this.#random() * others.length), 1)
        device.neighbours.add(other!.peerId)
        other!.neighbours.add(device.peerId)
      }
    }
  }

  #signAgain(device: CrowdDevice): void {
    const everyMs = 1 / (1 / REFRESH_MS + device.neighbours.size / LINK_CHANGE_MS)
    const again = () =>
      this.#later(everyMs * (0.5 + Math.random()), () => {
        device.measureAgain()
        device.sign()
        again()
      })
    again()
    const details = () =>
      this.#later(DETAILS_MS * (0.5 + Math.random()), () => {
        device.announce()
        details()
      })
    details()
  }

  #later(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      act()
    }, ms)
    this.#timers.add(timer)
  }
}

/** One of the crowd. */
class CrowdDevice {
  readonly peerId: string
  readonly exchange: Exchange
  /** Whom it is connected to, the node not among them. */
  readonly neighbours = new Set<string>()
  /** The node, while the two have proven themselves to each other. */
  met: string | undefined
  hasChosen = false
  signed: SignedRecord | undefined
  readonly #crowd: Crowd
  readonly #signer: Signer
  readonly #host: Host
  readonly #name: string
  readonly #links = new Map<string, LinkEstimate>()
  #directory: DirectoryService | undefined
  #membership: MembershipService | undefined
  #measuring: LinkService | undefined
  #sequence = 1
  #serial = Date.now()
  #ofNode = -1

  static async start(
    crowd: Crowd,
    { key, signer, name }: { key: PrivateKey; signer: Signer; name: string }
  ): Promise<CrowdDevice> {
    const host = await Host.create({
      privateKey: key,
      prologue: meshKeys(SECRET).prologue,
      serviceTag: undefined,
      port: 0,
      listen: '127.0.0.1',
      gate: { accepts: peerId => meetings.accepts(peerId), hasMet: peerId => meetings.hasMet(peerId) }
    })
    const roll = signedRoll(crowd, signer)
    const device = new CrowdDevice(crowd, { host, signer, name })
    const meetings = new Meetings({
      peerId: host.peerId,
      meet: peerId => device.#membership!.meet(peerId),
      disconnect: (peerId, reason) => host.disconnect(peerId, reason),
      digest: () => roll.known.digest,
      onMet: peerId => device.#came(peerId),
      onRefused() {}
    })
    device.#membership = await createMembershipService(host, {
      ...rawHandlers(roll),
      judge(peerId, hello) {
        const refusal = roll.judge(peerId, hello)
        meetings.judged(peerId, refusal, hello.digest)
        return refusal
      },
      met: (peerId, { epoch }) => meetings.met(peerId, epoch)
    })
    device.#directory = await createDirectoryService(host, {
      own: () => device.#record,
      contacts: () => device.#contacts,
      onRecord() {},
      onContacts() {},
      onRtt() {},
      onRelaysOpen(peerId) {
        device.exchange.joined(peerId, crowd.isLarge ? crowd.devices.map(other => other.peerId) : [])
        if (crowd.isLarge) device.#directory!.say(peerId, { type: 'keep', keep: device.hasChosen })
      },
      onRelaysEnd: peerId => device.exchange.left(peerId),
      onRelay(peerId, message) {
        if (message.type !== 'keep') device.exchange.heard(peerId, message)
      },
      onError(_, error) {
        // The node parts from those that neither of the two has chosen.
        if (isViolation(error)) process.stderr.write(`${name}: ${error.message}\n`)
      }
    })
    device.#measuring = await createLinkService(host, { isBusy: () => false })
    // Nobody asks for these; who lacks them is of another version.
    const { lease, stage, weights } = host.protocols
    for (const ids of [lease, stage, weights])
      await host.handle(ids, stream => stream.abort(new Error('nothing is done here')), {
        maxInboundStreams: 1
      })
    await host.start({
      onAnnounced() {},
      onConnected: peerId => meetings.connected(peerId),
      onDisconnected(peerId) {
        meetings.disconnected(peerId)
        device.#left(peerId)
      },
      onIdentified() {},
      onTouched() {}
    })
    return device
  }

  private constructor(crowd: Crowd, { host, signer, name }: { host: Host; signer: Signer; name: string }) {
    this.#crowd = crowd
    this.#host = host
    this.#signer = signer
    this.#name = name
    this.peerId = host.peerId
    this.exchange = new Exchange({
      timers: TIMERS,
      send: (peerId, message) => this.#directory!.say(peerId, message),
      get: device => crowd.deviceOf(device)?.signed,
      lacks: (device, serial) => device === this.met && serial > this.#ofNode,
      take: ({ serial }) => {
        this.#ofNode = serial
        return false
      }
    })
  }

  get address(): string {
    return this.#host.addresses[0]!
  }

  async dial(address: string): Promise<void> {
    const { address: at, peerId } = splitAddress(address)
    await this.#host.dial([at], peerId)
  }

  /** Signs what it says of itself now, and the node hears of it. */
  sign(): void {
    this.#sequence++
    this.announce()
    if (!this.#crowd.isLarge) return
    const neighbours = [...this.neighbours, ...(this.met === undefined ? [] : [this.met])]
    const text = JSON.stringify({ record: this.#record, addresses: this.#addresses, neighbours, epoch: 0 })
    this.#serial = Math.max(this.#serial + 1, Date.now())
    const unsigned = { device: this.peerId, serial: this.#serial, text }
    this.signed = { ...unsigned, signature: this.#signer.sign(signedRecordBytes(this.#crowd.mesh, unsigned)) }
    this.#crowd.spread(this.peerId)
  }

  /** Tells the node, where the two are connected. */
  announce(): void {
    this.#sequence++
    this.#directory!.announce()
  }

  /** One of its links is another one than it was. */
  measureAgain(): void {
    const peers = [...this.neighbours]
    this.#measured(peers[Math.floor(Math.random() * peers.length)]!)
  }

  async stop(): Promise<void> {
    this.exchange.stop()
    await this.#directory?.stop()
    await this.#measuring?.stop()
    await this.#host.stop()
  }

  get #addresses(): string[] {
    return this.#host.addresses.map(text => splitAddress(text).address)
  }

  get #record(): NodeRecord {
    return {
      ...record(this.#name),
      peerId: this.peerId,
      sequence: this.#sequence,
      memory: { budgetBytes: 2 ** 33, freeBytes: 1000 },
      leases: [],
      links: Object.fromEntries(this.#links)
    }
  }

  get #contacts() {
    return [...this.neighbours].flatMap(peerId => {
      const device = this.#crowd.deviceOf(peerId)
      return device === undefined
        ? []
        : [{ peerId, name: device.#name, addresses: device.#addresses.filter(isListenAddress) }]
    })
  }

  #measured(peerId: string): void {
    const mbps = () => Number((100 + 800 * Math.random()).toPrecision(3))
    this.#links.set(peerId, { outMbps: mbps(), inMbps: mbps(), rttMs: 1.23, spread: 0.0312, ageMs: 0 })
  }

  #came(peerId: string): void {
    this.met = peerId
    for (const neighbour of this.neighbours) this.#measured(neighbour)
    this.#directory!.connected(peerId)
    this.sign()
    if (this.peerId < peerId)
      setTimeout(() => void this.#measure(peerId), MEASURE_AFTER_MS * (1 + Math.random())).unref()
  }

  #left(peerId: string): void {
    this.met = undefined
    this.#directory!.disconnected(peerId)
    this.sign()
  }

  async #measure(peerId: string): Promise<void> {
    if (this.met !== peerId) return
    await this.#measuring!.measure(peerId).catch(() => {
      // Another one has the turn; it is tried again.
      setTimeout(() => void this.#measure(peerId), 1000 * (1 + Math.random())).unref()
    })
  }
}
