import { createHash } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import { TicketError } from './errors.ts'
import { SECRET_BYTES } from './membership.ts'

/** What the next device needs to join: the mesh's secret and where members were listening. */
export interface Ticket {
  secret: Uint8Array
  /** How often secret or ban list were changed. */
  epoch: number
  /** Multiaddrs that end in /p2p/<peer id>. */
  addresses: string[]
  /** Milliseconds since 1970. `join` refuses an older ticket; the secret in it stays valid until the mesh rotates. */
  expiresAtMs: number
}

export const TICKET_TTL_MS = 15 * 60_000

const PREFIX = 'edgeshard1-'
const CHECK_BYTES = 4
/** Expiry and epoch. */
const NUMBER_BYTES = 8
const MAX_ADDRESSES = 16
export const MAX_TICKET_CHARS = 8192
/** Clocks of devices that were never set run years behind; a ticket from the far future was not made by `invite`. */
const MAX_FUTURE_MS = 366 * 24 * 3600_000

/** One word to copy: prefix, then base64url of secret, expiry (s, u32), epoch (u32), addresses as length and bytes, checksum. */
export function encodeTicket({ secret, epoch, addresses, expiresAtMs }: Ticket): string {
  const numbers = Buffer.alloc(NUMBER_BYTES)
  numbers.writeUInt32BE(Math.floor(expiresAtMs / 1000))
  numbers.writeUInt32BE(epoch, 4)
  const parts: Uint8Array[] = [secret, numbers]
  for (const address of addresses.slice(0, MAX_ADDRESSES)) {
    const { bytes } = multiaddr(address)
    if (bytes.byteLength <= 255) parts.push(Uint8Array.of(bytes.byteLength), bytes)
  }
  const body = Buffer.concat(parts)
  return PREFIX + Buffer.concat([body, checksum(body)]).toString('base64url')
}

/**
 * Reads a ticket that somebody typed, pasted or piped in.
 *
 * @throws {TicketError} when it is incomplete, from another version, or expired
 */
export function decodeTicket(text: string, nowMs = Date.now()): Ticket {
  const word = text.trim()
  if (!word.startsWith(PREFIX) || word.length > MAX_TICKET_CHARS) {
    throw new TicketError(
      `this is not a ticket: it starts with '${PREFIX}'; make one with 'edgeshard invite'`
    )
  }
  const encoded = word.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64url')
  const body = bytes.subarray(0, -CHECK_BYTES)
  const damaged = new TicketError('the ticket is damaged or cut off: copy the whole word that invite printed')
  if (!/^[\w-]+$/.test(encoded) || body.byteLength < SECRET_BYTES + NUMBER_BYTES) throw damaged
  if (!checksum(body).equals(bytes.subarray(-CHECK_BYTES))) throw damaged
  const expiresAtMs = body.readUInt32BE(SECRET_BYTES) * 1000
  if (expiresAtMs < nowMs || expiresAtMs > nowMs + MAX_FUTURE_MS) {
    const when = new Date(expiresAtMs).toISOString()
    throw new TicketError(`the ticket is only good until ${when}; make a new one with 'edgeshard invite'`)
  }
  return {
    secret: new Uint8Array(body.subarray(0, SECRET_BYTES)),
    epoch: body.readUInt32BE(SECRET_BYTES + 4),
    addresses: readAddresses(body.subarray(SECRET_BYTES + NUMBER_BYTES), damaged),
    expiresAtMs
  }
}

function readAddresses(bytes: Buffer, damaged: TicketError): string[] {
  const addresses: string[] = []
  for (let offset = 0; offset < bytes.byteLength; ) {
    const end = offset + 1 + bytes[offset]!
    if (end > bytes.byteLength || addresses.length >= MAX_ADDRESSES) throw damaged
    try {
      addresses.push(multiaddr(new Uint8Array(bytes.subarray(offset + 1, end))).toString())
    } catch {
      throw damaged
    }
    offset = end
  }
  return addresses
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, CHECK_BYTES)
}
