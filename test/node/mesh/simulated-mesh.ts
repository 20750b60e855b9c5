import { Roll } from '../../../node/mesh/roll.ts'
import { TicketBook } from '../../../node/mesh/tickets.ts'
import { lineOf, type Statement, type Unsigned } from '../../../protocols/membership/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import type { Random } from '../../protocols/mutate.ts'

const TTL_MS = 900_000
const MOST_DEVICES = 9

/** Only who has a device's key can write its signature: here the key is the device's own object. */
const signatureOf = (statement: Unsigned): string => `signed ${lineOf(statement)}`
const signed = (statement: Unsigned) => ({ ...statement, signature: signatureOf(statement) }) as Statement
const isSigned = (statement: Statement): boolean => statement.signature === signatureOf(statement)

/** One device: what it knows, the tickets it has made, and its clock, which may be years off. */
export class SimulatedDevice {
  readonly peerId: string
  readonly #world: SimulatedMesh
  /** What its clock is ahead, in ms. */
  readonly skewMs: number
  roll: Roll
  tickets: TicketBook
  online = true
  /** Devices with the same number reach each other. */
  network = 0

  constructor(world: SimulatedMesh, peerId: string, skewMs: number, statements: readonly Statement[]) {
    this.#world = world
    this.peerId = peerId
    this.skewMs = skewMs
    this.roll = this.#rollOf(statements)
    this.tickets = new TicketBook([], () => world.nowMs + skewMs)
  }

  /** What was on disk is there again, and nothing else. */
  restart(): void {
    this.roll = this.#rollOf(JSON.parse(JSON.stringify(this.roll.known.all)))
    this.tickets = new TicketBook(
      JSON.parse(JSON.stringify(this.tickets.tickets)),
      () => this.#world.nowMs + this.skewMs
    )
  }

  /** Whether it keeps a statement: it may count, as far as it knows. */
  keeps(statement: Statement): boolean {
    return this.roll.known.all.some(kept => lineOf(kept) === lineOf(statement))
  }

  #rollOf(statements: readonly Statement[]): Roll {
    return new Roll({
      peerId: this.peerId,
      mesh: this.#world.mesh,
      statements,
      sign: statement => {
        const made = signed(statement)
        this.#world.said.push(made)
        return made
      },
      isSigned,
      onChange: () => {}
    })
  }
}

/** Devices that meet as protocols/README.md says, in whatever order a test chooses. */
export class SimulatedMesh {
  readonly founder: SimulatedDevice
  readonly mesh: string
  readonly devices: SimulatedDevice[]
  /** Every statement that was ever signed. */
  readonly said: Statement[] = []
  /** Tickets that people carry. */
  readonly tickets: { inviter: SimulatedDevice; code: Uint8Array; madeAtMs: number; usedBy?: string }[] = []
  readonly #random: Random
  nowMs = 1_800_000_000_000

  constructor(random: Random) {
    this.#random = random
    const founder = peerIdOf('founder')
    this.mesh = `${founder}.${'00'.repeat(16)}`
    this.founder = new SimulatedDevice(this, founder, 0, [])
    this.devices = [this.founder]
    for (let i = random.below(5); i > 0; i--) {
      const inviter = random.pick(this.devices)
      const { code } = inviter.tickets.open(TTL_MS)
      this.redeem({ inviter, code, madeAtMs: this.nowMs }, this.newDevice())
    }
  }

  /** A device that was just switched on, with a clock of its own. */
  newDevice(): SimulatedDevice {
    const random = this.#random
    const skewMs = random.next() < 0.3 ? (random.next() - 0.5) * 4e12 : 0
    const device = new SimulatedDevice(this, peerIdOf(`d${this.devices.length}`), skewMs, [])
    this.devices.push(device)
    return device
  }

  reaches(a: SimulatedDevice, b: SimulatedDevice): boolean {
    return a.online && b.online && a.network === b.network
  }

  /** Two devices meet; whether each lets the other in. What they know is the same then. */
  meet(a: SimulatedDevice, b: SimulatedDevice): boolean {
    if (!this.reaches(a, b)) return false
    const hello = a.roll.proof
    if (b.roll.judge(a.peerId, hello) !== null) return false
    const reply = b.roll.proof
    if (a.roll.judge(b.peerId, reply) !== null) return false
    if (a.roll.proof.digest !== reply.digest) {
      const sent = a.roll.known.all
      b.roll.take(sent)
      const lines = new Set(sent.map(lineOf))
      a.roll.take(b.roll.known.all.filter(statement => !lines.has(lineOf(statement))))
    }
    return true
  }

  /** A device shows a ticket; the code of the refusal, or null. */
  redeem(ticket: SimulatedMesh['tickets'][number], device: SimulatedDevice): string | null {
    const { inviter, code } = ticket
    if (!this.reaches(inviter, device)) return 'unreached'
    if (!inviter.roll.isIn) return 'not-admitted'
    if (inviter.roll.known.isBanned(device.peerId)) return 'banned'
    const refusal = inviter.tickets.take(code, device.peerId)
    if (refusal !== null) return refusal.code
    ticket.usedBy = device.peerId
    inviter.roll.admit(device.peerId)
    device.roll.take([...inviter.roll.known.proofOf(device.peerId), ...inviter.roll.known.all])
    return null
  }

  /** One of all that may happen. @returns what happened, for a failure's report */
  step(): string {
    const random = this.#random
    const device = random.pick(this.devices)
    const other = random.pick(this.devices)
    const short = ({ peerId }: SimulatedDevice) => `${this.devices.findIndex(each => each.peerId === peerId)}`
    this.nowMs += random.next() * 300_000
    const kind = random.below(16)
    if (kind <= 4) return `${short(device)} meets ${short(other)}: ${this.meet(device, other)}`
    if (kind === 5) {
      if (!device.roll.isIn) return ''
      this.tickets.push({ inviter: device, madeAtMs: this.nowMs, ...device.tickets.open(TTL_MS) })
      return `${short(device)} invites`
    }
    if (kind <= 7) {
      if (this.tickets.length === 0) return ''
      // Most tickets are shown at once.
      const ticket = random.next() < 0.7 ? this.tickets.at(-1)! : random.pick(this.tickets)
      const guest = this.devices.length < MOST_DEVICES && random.next() < 0.7 ? this.newDevice() : other
      return `${short(guest)} shows ${short(ticket.inviter)} a ticket: ${this.#checked(ticket, guest)}`
    }
    if (kind === 8) {
      const groups = 1 + random.below(3)
      for (const each of this.devices) each.network = random.below(groups)
      return `the network falls into ${groups}`
    }
    if (kind === 9) {
      device.online = random.next() < 0.6
      return `${short(device)} is ${device.online ? 'on' : 'off'}`
    }
    if (kind === 10) {
      device.restart()
      return `${short(device)} restarts`
    }
    if (kind <= 12) {
      const owner = random.pick([device, ...this.devices.filter(({ roll }) => roll.isOwner)])
      return `${short(owner)} bans ${short(other)}: ${this.#banned(owner, other)}`
    }
    if (kind === 13) {
      const owners = this.devices.filter(({ roll }) => roll.isOwner && roll.known.banned.length > 0)
      if (owners.length === 0) return ''
      const owner = random.pick(owners)
      const banned = random.pick(owner.roll.known.banned)
      const other = this.devices.find(({ peerId }) => peerId === banned) ?? device
      return `${short(owner)} unbans ${short(other)}: ${outcome(() => owner.roll.unban(banned))}`
    }
    if (kind === 14) {
      if (!this.founder.roll.known.isIn(other.peerId) || this.founder.roll.known.owners.length > 3) return ''
      this.founder.roll.promote(other.peerId)
      return `${short(other)} is an owner`
    }
    return `${short(device)} attacks ${short(other)}: ${this.#attack(device, other)}`
  }

  /** All are on and reach each other, and meet until nobody learns anything. */
  heal(): void {
    for (const device of this.devices) {
      device.online = true
      device.network = 0
    }
    let before = ''
    for (let round = 0; round <= this.devices.length; round++) {
      for (const a of this.devices) for (const b of this.devices) if (a !== b) this.meet(a, b)
      const now = this.devices.map(({ roll }) => roll.known.digest).join()
      if (now === before) return
      before = now
    }
    throw new Error('the devices do not come to an end with what they tell each other')
  }

  #checked(ticket: SimulatedMesh['tickets'][number], guest: SimulatedDevice): string | null {
    const { usedBy, madeAtMs } = ticket
    const outcome = this.redeem(ticket, guest)
    if (outcome !== null) return outcome
    if (usedBy !== undefined && usedBy !== guest.peerId) throw new Error('a ticket was taken twice')
    if (this.nowMs >= madeAtMs + TTL_MS) throw new Error('an old ticket was taken')
    return null
  }

  #banned(device: SimulatedDevice, other: SimulatedDevice): string {
    if (!device.roll.isOwner) return 'it is no owner'
    const gone = device.roll.known.dependingOn(other.peerId)
    const keep = gone.filter(() => this.#random.next() < 0.3)
    return `keeps ${keep.length} of ${gone.length}: ${outcome(() => device.roll.ban(other.peerId, keep))}`
  }

  /** A device says to another what its key, and what it has heard, lets it say. */
  #attack(device: SimulatedDevice, other: SimulatedDevice): string {
    const random = this.#random
    const { peerId: by } = device
    const about = random.pick(this.devices).peerId
    const counter = random.pick([1, 2, 3, 2 ** 31])
    const own = signed(
      random.pick<Unsigned>([
        { type: 'ban', device: about, by, counter },
        { type: 'unban', device: by, by, counter },
        { type: 'owner', device: by, by },
        { type: 'admit', device: about, by, counter: random.pick([0, 1, 2]) }
      ])
    )
    const stolen = { ...own, by: this.founder.peerId } as Statement
    const replayed = this.said.filter(() => random.next() < 0.3).sort(() => random.next() - 0.5)
    const proof = [own, stolen, ...replayed]
    // A copied disk under a key of its own: everything is known of the mesh but a key that is in it.
    const thief = peerIdOf(`thief${random.below(3)}`)
    const { mesh } = this
    if (other.roll.judge(thief, { mesh, proof: [...other.roll.known.all, stolen] }) === null)
      throw new Error('a copied disk was let in')
    device.roll.take([own])
    const isIn = this.reaches(device, other) && other.roll.judge(by, { mesh, proof }) === null
    if (isIn) other.roll.take(proof)
    if (device.keeps(own) || other.keeps(own)) this.said.push(own)
    return isIn ? `with ${proof.length} statements` : 'in vain'
  }
}

/** What an owner hears of what it has asked for. */
function outcome(act: () => void): string {
  try {
    act()
    return 'done'
  } catch (error) {
    if ((error as Error).name !== 'RequestError') throw error
    return (error as Error).message
  }
}

/** Who is in, by the letter of the rules: statement after statement until nothing changes. */
export function whoIsIn(founder: string, said: readonly Statement[]): Set<string> {
  const real = said.filter(isSigned)
  const bans = real.filter(statement => statement.type === 'ban' || statement.type === 'unban')
  const promoted = new Set(
    real
      .filter(({ type, by, device }) => type === 'owner' && by === founder && device !== founder)
      .map(({ device }) => device)
  )
  const verdict = (device: string, isSigner: (by: string) => boolean) => {
    const about = bans.filter(ban => ban.device === device && ban.by !== device && isSigner(ban.by))
    const counter = Math.max(0, ...about.map(ban => ban.counter))
    return { counter, banned: about.some(ban => ban.counter === counter && ban.type === 'ban') }
  }
  const isOwner = (by: string) =>
    by === founder || (promoted.has(by) && !verdict(by, signer => signer === founder).banned)
  const judged = (device: string) => {
    if (device === founder) return { counter: 0, banned: false }
    return verdict(device, promoted.has(device) ? by => by === founder : isOwner)
  }
  const inside = new Set([founder, ...[...promoted].filter(isOwner)])
  for (let before = 0; before !== inside.size; ) {
    before = inside.size
    for (const statement of real) {
      if (statement.type !== 'admit' || !inside.has(statement.by) || judged(statement.device).banned) continue
      if (statement.counter >= judged(statement.by).counter) inside.add(statement.device)
    }
  }
  return inside
}
