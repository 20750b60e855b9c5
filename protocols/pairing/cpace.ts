/**
 * CPace over ristretto255 with SHA-512 (CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace-21) between an initiator A and a
 * responder B: what two sides that know the same password make of it, so that who knows another one has one guess a run.
 * Functions are called as in the draft; its vectors are in test/protocols/vectors/cpace.json.
 */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js'
import { InvalidMessageError } from '../errors.ts'

const DSI = ascii('CPaceRistretto255')
const DSI_ISK = ascii('CPaceRistretto255_ISK')
/** Input block of SHA-512: password and padding fill the first one. */
const HASH_BLOCK_BYTES = 128
const ORDER_BITS = 252
const SCALAR_BYTES = 32

/** What each side has sent: its share, 32 bytes, and what it says beside it. */
export interface Sent {
  share: Uint8Array
  associated: Uint8Array
}

/** Octet strings, each behind its length in LEB128. */
export function lvCat(...parts: Uint8Array[]): Uint8Array {
  return joined(parts.flatMap(part => [leb128(part.byteLength), part]))
}

/** What is hashed to the generator. */
export function generatorString(password: Uint8Array, channel: Uint8Array, sid: Uint8Array): Uint8Array {
  const filled = lvCat(DSI).byteLength + lvCat(password).byteLength + 1
  const padding = new Uint8Array(Math.max(0, HASH_BLOCK_BYTES - filled))
  return lvCat(DSI, password, padding, channel, sid)
}

/** The point that the password stands for in this run, 32 bytes. */
export function calculateGenerator(password: Uint8Array, channel: Uint8Array, sid: Uint8Array): Uint8Array {
  const hash = new Uint8Array(sha512(generatorString(password, channel, sid)))
  // RFC 9496, 4.3.4: from 64 uniform bytes.
  return ristretto255_hasher.deriveToCurve!(hash).toBytes()
}

/** A secret scalar, 32 bytes, little endian. */
export function sampleScalar(): Uint8Array {
  for (;;) {
    const bytes = new Uint8Array(randomBytes(SCALAR_BYTES))
    bytes[SCALAR_BYTES - 1]! &= 2 ** (ORDER_BITS % 8) - 1
    // Zero would give the neutral element away; it does not come up in the life of a universe.
    if (scalarOf(bytes) !== 0n) return bytes
  }
}

/** The share that a scalar makes of a generator. */
export function scalarMult(scalar: Uint8Array, point: Uint8Array): Uint8Array {
  return ristretto255.Point.fromBytes(point).multiply(scalarOf(scalar)).toBytes()
}

/**
 * The secret point of both, 32 bytes.
 *
 * @throws {InvalidMessageError} for a share that is no canonical point, or leads to the neutral element
 */
export function scalarMultVfy(scalar: Uint8Array, share: Uint8Array): Uint8Array {
  const point = pointOf(share)
  if (point === undefined || point.is0())
    throw new InvalidMessageError('a share is no point that a code makes')
  return point.multiply(scalarOf(scalar)).toBytes()
}

/** The key that both have where they know the same password, 64 bytes. */
export function sessionKey(sid: Uint8Array, secret: Uint8Array, a: Sent, b: Sent): Uint8Array {
  return sha512(lvCat(DSI_ISK, sid, secret), lvCat(a.share, a.associated), lvCat(b.share, b.associated))
}

/** What shows that the sender of `sent` has the session key, 64 bytes. */
export function confirmationTag(sid: Uint8Array, key: Uint8Array, sent: Sent): Uint8Array {
  const macKey = sha512(ascii('CPaceMac'), sid, key)
  return new Uint8Array(createHmac('sha512', macKey).update(lvCat(sent.share, sent.associated)).digest())
}

function pointOf(bytes: Uint8Array): InstanceType<typeof ristretto255.Point> | undefined {
  try {
    return ristretto255.Point.fromBytes(bytes)
  } catch {
    // It encodes no point, which the caller says.
    return undefined
  }
}

function scalarOf(bytes: Uint8Array): bigint {
  return ristretto255.Point.Fn.create(BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`))
}

function leb128(length: number): Uint8Array {
  const bytes: number[] = []
  for (let rest = length; ; rest >>>= 7) {
    if (rest < 0x80) return Uint8Array.of(...bytes, rest)
    bytes.push((rest & 0x7f) | 0x80)
  }
}

function sha512(...parts: Uint8Array[]): Uint8Array {
  const hash = createHash('sha512')
  for (const part of parts) hash.update(part)
  return new Uint8Array(hash.digest())
}

function joined(parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}

function ascii(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'ascii'))
}
