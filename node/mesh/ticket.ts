import { createHash } from 'node:crypto'
import { multiaddr } from '@multiformats/multiaddr'
import { founderOf, type MeshName } from '../../protocols/membership/statement.ts'
import { peerIdOfKey, publicKeyOf } from '../../protocols/peer-id.ts'
import { TicketError } from './errors.ts'
import { MESH_NONCE_BYTES, SECRET_BYTES } from './membership.ts'

/** What the next device needs to join, once: how to reach the device that admits it, and what to say to it. */
export interface Ticket {
  secret: Uint8Array
  mesh: MeshName
  /** Peer id of the device that made the ticket and takes it. */
  inviter: string
  /** 16 bytes that the inviter takes once. */
  code: Uint8Array
  /** Multiaddrs of the inviter, which end in /p2p/<peer id>. */
  addresses: string[]
  /** Milliseconds since 1970, by the inviter's clock, which judges it; here it is for people. */
  expiresAtMs: number
}

export const TICKET_TTL_MS = 15 * 60_000

const PREFIX = 'edgeshard2-'
const OLD_PREFIX = 'edgeshard1-'
const CHECK_BYTES = 4
const EXPIRY_BYTES = 4
const CODE_BYTES = 16
const KEY_BYTES = 32
const HEAD_BYTES = SECRET_BYTES + EXPIRY_BYTES + CODE_BYTES + MESH_NONCE_BYTES + 2 * KEY_BYTES
const MAX_ADDRESSES = 16
export const MAX_TICKET_CHARS = 8192

/**
 * One word to copy: prefix, then base64url of secret, expiry (s, u32), code, the mesh's nonce, the keys of founder and
 * inviter, addresses as length and bytes, checksum.
 */
export function encodeTicket({ secret, mesh, inviter, code, addresses, expiresAtMs }: Ticket): string {
  const expiry = Buffer.alloc(EXPIRY_BYTES)
  expiry.writeUInt32BE(Math.max(0, Math.floor(expiresAtMs / 1000)))
  const founder = founderOf(mesh)
  const nonce = Buffer.from(mesh.slice(founder.length + 1), 'hex')
  const parts: Uint8Array[] = [secret, expiry, code, nonce, publicKeyOf(founder), publicKeyOf(inviter)]
  for (const address of addresses.slice(0, MAX_ADDRESSES)) {
    const { bytes } = multiaddr(address)
    if (bytes.byteLength <= 255) parts.push(Uint8Array.of(bytes.byteLength), bytes)
  }
  const body = Buffer.concat(parts)
  return PREFIX + Buffer.concat([body, checksum(body)]).toString('base64url')
}

/**
 * Reads a ticket that somebody typed, pasted or piped in; white space in it is of the window that it was copied from. Whether it is still good the inviter knows alone: the clock of
 * this device may be wrong.
 *
 * @throws {TicketError} when it is incomplete or from another version
 */
export function decodeTicket(text: string): Ticket {
  const word = text.replace(/\s+/g, '')
  if (word.startsWith(OLD_PREFIX)) {
    throw new TicketError(
      "the ticket is of an earlier version: update the device that made it, and make a new one with 'edgeshard invite'"
    )
  }
  if (!word.startsWith(PREFIX) || word.length > MAX_TICKET_CHARS) {
    throw new TicketError(
      `this is not a ticket: it starts with '${PREFIX}'; make one with 'edgeshard invite'`
    )
  }
  const encoded = word.slice(PREFIX.length)
  const bytes = Buffer.from(encoded, 'base64url')
  const body = bytes.subarray(0, -CHECK_BYTES)
  const damaged = new TicketError('the ticket is damaged or cut off: copy the whole word that invite printed')
  if (!/^[\w-]+$/.test(encoded) || body.byteLength < HEAD_BYTES) throw damaged
  if (!checksum(body).equals(bytes.subarray(-CHECK_BYTES))) throw damaged
  let at = 0
  const next = (length: number) => {
    at += length
    return new Uint8Array(body.subarray(at - length, at))
  }
  const secret = next(SECRET_BYTES)
  const expiresAtMs = Buffer.from(next(EXPIRY_BYTES)).readUInt32BE() * 1000
  const code = next(CODE_BYTES)
  const nonce = Buffer.from(next(MESH_NONCE_BYTES)).toString('hex')
  const [founder, inviter] = [peerIdOfKey(next(KEY_BYTES)), peerIdOfKey(next(KEY_BYTES))]
  const addresses = readAddresses(body.subarray(at), damaged)
  return { secret, mesh: `${founder}.${nonce}`, inviter, code, addresses, expiresAtMs }
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
