import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { InvalidMessageError } from '../errors.ts'
import {
  calculateGenerator,
  confirmationTag,
  lvCat,
  type Sent,
  sampleScalar,
  scalarMult,
  scalarMultVfy,
  sessionKey
} from './cpace.ts'
import type { Start } from './messages.ts'

/** The peer ids that the noise handshake of a connection has proven. */
export interface Channel {
  joiner: string
  member: string
}

/** A ticket as it crosses the wire. */
export interface SealedTicket {
  /** 12 bytes in hex. */
  nonce: string
  /** In base64url. */
  ticket: string
}

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const NONCE_BYTES = 12
const TAG_BYTES = 16
const SID_BYTES = 16
const TICKET_PURPOSE = 'edgeshard pairing ticket 1'

/** The side of the device that joins: it was told a code, and finds out whether the member shows the same. */
export class JoinerSide {
  readonly start: Start
  readonly #scalar: Uint8Array

  /**
   * @param device - peer id that the device has in meshes
   * @param drawn - what is drawn anew for each run; given so that a test can play one run again
   */
  constructor(
    code: string,
    channel: Channel,
    device: string,
    drawn = { scalar: sampleScalar(), sid: newSid() }
  ) {
    const { scalar, sid } = drawn
    this.#scalar = scalar
    const share = scalarMult(scalar, generatorOf(code, channel, sid))
    this.start = { sid: hex(sid), device, share: hex(share) }
  }

  /** @throws {InvalidMessageError} for a share that no code makes */
  answered(share: string): Proof {
    const own = joinerSent(this.start)
    const theirs = memberSent(bytesOf(share))
    const sid = bytesOf(this.start.sid)
    const key = sessionKey(sid, scalarMultVfy(this.#scalar, theirs.share), own, theirs)
    return new Proof(sid, key, { own, theirs })
  }
}

/**
 * The member's side of one run.
 *
 * @param scalar - drawn anew for each run, as above
 * @throws {InvalidMessageError} for a share that no code makes
 */
export function memberSide(
  code: string,
  channel: Channel,
  start: Start,
  scalar = sampleScalar()
): { share: string; proof: Proof } {
  const sid = bytesOf(start.sid)
  const theirs = joinerSent(start)
  const secret = scalarMultVfy(scalar, theirs.share)
  const own = memberSent(scalarMult(scalar, generatorOf(code, channel, sid)))
  const key = sessionKey(sid, secret, theirs, own)
  return { share: hex(own.share), proof: new Proof(sid, key, { own, theirs }) }
}

/** What one side has after both shares: the key of the run, to show it, to check it, and to seal with it. */
export class Proof {
  /** What shows that this side knows the code, 64 bytes in hex. */
  readonly tag: string
  readonly #expected: Uint8Array
  readonly #ticketKey: Uint8Array

  constructor(sid: Uint8Array, key: Uint8Array, { own, theirs }: { own: Sent; theirs: Sent }) {
    this.tag = hex(confirmationTag(sid, key, own))
    this.#expected = confirmationTag(sid, key, theirs)
    this.#ticketKey = new Uint8Array(hkdfSync('sha512', key, new Uint8Array(0), TICKET_PURPOSE, KEY_BYTES))
  }

  /** Whether the other side knows the code. */
  isShownBy(tag: string): boolean {
    const bytes = bytesOf(tag)
    return bytes.byteLength === this.#expected.byteLength && timingSafeEqual(bytes, this.#expected)
  }

  seal(ticket: string): SealedTicket {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#ticketKey, nonce)
    const sealed = Buffer.concat([cipher.update(ticket, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return { nonce: hex(nonce), ticket: sealed.toString('base64url') }
  }

  /** @throws {InvalidMessageError} for what was not sealed in this run */
  open({ nonce, ticket }: SealedTicket): string {
    const sealed = Buffer.from(ticket, 'base64url')
    try {
      const decipher = createDecipheriv(CIPHER, this.#ticketKey, bytesOf(nonce))
      decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
      return Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()]).toString(
        'utf8'
      )
    } catch (error) {
      throw new InvalidMessageError('the ticket was not sealed by who showed the code', { cause: error })
    }
  }
}

function newSid(): Uint8Array {
  return new Uint8Array(randomBytes(SID_BYTES))
}

function generatorOf(code: string, { joiner, member }: Channel, sid: Uint8Array): Uint8Array {
  return calculateGenerator(ascii(code), lvCat(ascii(joiner), ascii(member)), sid)
}

/** The two sides say different things beside their shares, so that neither's tag is the other's. */
function joinerSent({ share, device }: Pick<Start, 'share' | 'device'>): Sent {
  return { share: bytesOf(share), associated: ascii(`joins ${device}`) }
}

function memberSent(share: Uint8Array): Sent {
  return { share, associated: ascii('admits') }
}

function ascii(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'ascii'))
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

function bytesOf(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'hex'))
}
