import { setTimeout as delay } from 'node:timers/promises'
import type { PrivateKey } from '@libp2p/interface'
import { type Admission, type Refusal, redeem } from '../../protocols/membership/index.ts'
import { shortId } from '../short-names.ts'
import { VERSION } from '../version.ts'
import { readContacts, splitAddress, writeContacts } from './contacts.ts'
import { type DialFailure, Discovery } from './discovery.ts'
import { InviterUnreachedError, TicketError } from './errors.ts'
import { Host, MDNS_INTERVAL_MS } from './host.ts'
import { loadIdentity, readIdentity } from './identity.ts'
import { InterfaceAnnouncer } from './interface-announcer.ts'
import { meshKeys, readMembership, saveMembership } from './membership.ts'
import { signedRoll } from './signed-roll.ts'
import { signerOf } from './signing.ts'
import type { Ticket } from './ticket.ts'

export type JoinOutcome = 'joined' | 'replaced' | 'unchanged'

export interface JoinOptions {
  /** @default JOIN_TIMEOUT_MS */
  timeoutMs?: number
  /** Look for the inviting device on the local network, too. @default true */
  mdns?: boolean
  /** This device's clock, for what is said of it; ms since 1970. */
  nowMs?: () => number
  signal?: AbortSignal
}

/** Dialling, a search of the local network, and again where others crowd the door of the inviting device. */
export const JOIN_TIMEOUT_MS = 30_000
/** Clocks that differ by less are not worth a word. */
const CLOCK_TOLERANCE_MS = 5 * 60_000
/** No ticket is made for longer. */
const MAX_TTL_MS = 366 * 24 * 3600_000

/**
 * Has the device that made a ticket admit this one, and makes the home a member of its mesh. The caller holds the home's
 * lock. Peers of a mesh that is left are forgotten.
 *
 * @throws {InviterUnreachedError} where that device does not answer in time, {TicketError} where it refuses
 */
export async function joinMesh(
  home: string,
  ticket: Ticket,
  options: JoinOptions = {}
): Promise<JoinOutcome> {
  const { nowMs = Date.now } = options
  const before = await readMembership(home)
  const privateKey = await loadIdentity(home)
  const admission = await redeemed(privateKey, ticket, options)
  if (admission.type === 'refused') throw new TicketError(refusalText(admission.refusal, nowMs()))

  const { mesh, inviter } = ticket
  const { proof, statements, secret, epoch, by, signature } = admission
  const roll = signedRoll({ mesh, statements: [...proof, ...statements] }, signerOf(privateKey))
  if (!roll.isIn) {
    throw new TicketError(
      `${shortId(inviter)} is not in the mesh that its ticket names: invite on another device`
    )
  }
  const same = before?.mesh === mesh
  const contacts = same ? await readContacts(home) : new Map<string, string[]>()
  for (const text of [...ticket.addresses, ...admission.reachedAt.map(at => `${at}/p2p/${inviter}`)]) {
    const { address, peerId: at } = splitAddress(text)
    if (at !== undefined) contacts.set(at, [...new Set([address, ...(contacts.get(at) ?? [])])])
  }
  // The contacts first: after a crash between the two, old secret and new addresses only cost a refused dial.
  await writeContacts(home, contacts)
  await saveMembership(home, {
    mesh,
    statements: roll.known.all,
    secret: new Uint8Array(Buffer.from(secret, 'hex')),
    epoch,
    signed: by === undefined || signature === undefined ? undefined : { by, signature }
  })
  return same ? 'unchanged' : before === null ? 'joined' : 'replaced'
}

/** How many other devices the mesh of a home has that is left for `mesh`; none where the device is not in one, or in that. */
export async function devicesLeft(home: string, mesh: string): Promise<number> {
  const [membership, identity] = [await readMembership(home), await readIdentity(home)]
  if (membership === null || identity === null || membership.mesh === mesh) return 0
  const { isIn, known } = signedRoll(membership, signerOf(identity))
  return isIn ? known.devices.length - 1 : 0
}

type Redeemed =
  | (Extract<Admission, { type: 'admitted' }> & { reachedAt: string[] })
  | Extract<Admission, { type: 'refused' }>

/** Finds the inviting device, proves this device's key to it, and shows the ticket's code. */
async function redeemed(privateKey: PrivateKey, ticket: Ticket, options: JoinOptions): Promise<Redeemed> {
  const { timeoutMs = JOIN_TIMEOUT_MS, mdns = true, nowMs = Date.now } = options
  const { inviter, mesh, code } = ticket
  const { prologue, serviceTag, interfaceTag } = meshKeys(ticket.secret)
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([options.signal, deadline])
  const host = await Host.create({
    privateKey,
    prologue,
    serviceTag: mdns ? serviceTag : undefined,
    version: VERSION,
    port: 0,
    gate: { accepts: () => false, hasMet: () => false }
  })
  const heard = (peerId: string, addresses: string[]) => {
    if (peerId === inviter) discovery.heard(peerId, addresses)
  }
  const failures: DialFailure[] = []
  const addresses = ticket.addresses.map(text => splitAddress(text).address)
  const discovery = new Discovery({
    host,
    peers: [],
    remembered: new Map([[inviter, addresses]]),
    onFailure: failure => failures.push(failure)
  })
  const announcer = new InterfaceAnnouncer({
    peerId: host.peerId,
    serviceTag: interfaceTag,
    intervalMs: MDNS_INTERVAL_MS,
    addresses: () => host.addresses.map(text => splitAddress(text).address),
    connected: () => [],
    onPeer: heard
  })
  try {
    const reached = new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      const started = host.start({
        onAnnounced: heard,
        onConnected: peerId => {
          if (peerId === inviter) resolve()
        },
        onDisconnected: peerId => discovery.disconnected(peerId),
        onIdentified: () => {},
        onTouched: () => {}
      })
      started.then(() => {
        discovery.start()
        if (mdns) announcer.start()
      }, reject)
    })
    for (;;) {
      await reached
      signal.throwIfAborted()
      try {
        const answer = await redeem(host, inviter, { mesh, code: Buffer.from(code).toString('hex') })
        const reachedAt = host.outboundAddresses(inviter)
        return answer.type === 'refused' ? answer : { ...answer, reachedAt }
      } catch (error) {
        // The connection broke, or the device is too busy: it takes the same ticket of the same device again.
        signal.throwIfAborted()
        await pause(REDEEM_AGAIN_MS, signal, error)
      }
    }
  } catch (error) {
    if (!deadline.aborted) throw error
    throw new InviterUnreachedError(unreachedText(ticket, failures, { timeoutMs, nowMs: nowMs() }), {
      cause: error
    })
  } finally {
    discovery.stop()
    await announcer.stop()
    await host.stop()
  }
}

const REDEEM_AGAIN_MS = 1000

async function pause(ms: number, signal: AbortSignal, cause: unknown): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {
    throw cause
  })
}

function refusalText({ code, reason = code, nowMs: theirsMs, expiresAtMs }: Refusal, ownMs: number): string {
  const again = "make a new one with 'edgeshard invite'"
  if (code === 'ticket-expired' && theirsMs !== undefined && expiresAtMs !== undefined) {
    const differ = Math.abs(ownMs - theirsMs) > CLOCK_TOLERANCE_MS
    const clocks = differ ? ` (this device's clock says ${clock(ownMs)}: set the one that is wrong)` : ''
    return `the ticket was good until ${clock(expiresAtMs)}, and the device that made it says it is ${clock(theirsMs)}${clocks}: ${again}`
  }
  if (code === 'ticket-used' || code === 'ticket-unknown') return `${reason}: ${again}`
  return `the device that made the ticket refuses it: ${reason}`
}

function unreachedText(
  { addresses, inviter, expiresAtMs }: Ticket,
  failures: readonly DialFailure[],
  { timeoutMs, nowMs }: { timeoutMs: number; nowMs: number }
): string {
  if (failures.some(({ refused }) => refused)) {
    return `the device that made the ticket has another secret now: the mesh has changed it since, so make a new ticket with 'edgeshard invite'`
  }
  const where =
    addresses.length === 0
      ? ' on this network (no node ran there when the ticket was made, so it names no address)'
      : ` at ${addresses.map(text => splitAddress(text).address).join(', ')}`
  const isOdd = nowMs > expiresAtMs || nowMs < expiresAtMs - MAX_TTL_MS
  const odd = isOdd
    ? `; this device's clock says ${clock(nowMs)}, the ticket is good until ${clock(expiresAtMs)}: set the clock, or make a new ticket`
    : ''
  return (
    `the device that made the ticket (${shortId(inviter)}) did not answer within ${Math.round(timeoutMs / 1000)} s${where}: ` +
    `it admits this one, so 'edgeshard up' has to run there while you join here${odd}`
  )
}

function clock(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
}
