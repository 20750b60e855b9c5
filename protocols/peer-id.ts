import { z } from 'zod'

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const FORM = /^1[1-9A-HJ-NP-Za-km-z]{51}$/
/** Before the 256 bits of an Ed25519 key: its length as a digest (36), then protobuf for type 1 and 32 bytes. */
const HEAD = 0x24_08_01_12_20n
const KEY_BITS = 256n

/** Ids that were found to be ones, for a mesh of many names the same again and again. */
const found = new Set<string>()
const MAX_FOUND = 4096

/**
 * Whether a text is a peer id of this mesh: an Ed25519 key in base58, in the one way it is written. libp2p throws at
 * anything else, and a list of bans or contacts with such an entry would fail as a whole.
 */
export function isPeerId(text: string): boolean {
  if (found.has(text)) return true
  if (!FORM.test(text) || numberOf(text) >> KEY_BITS !== HEAD) return false
  if (found.size >= MAX_FOUND) found.clear()
  found.add(text)
  return true
}

/** The 32 bytes of the Ed25519 key that a peer id holds. */
export function publicKeyOf(peerId: string): Uint8Array {
  const key = BigInt.asUintN(Number(KEY_BITS), numberOf(peerId))
  return new Uint8Array(Buffer.from(key.toString(16).padStart(64, '0'), 'hex'))
}

/** The peer id of an Ed25519 key, given its 32 bytes. */
export function peerIdOfKey(key: Uint8Array): string {
  let value = (HEAD << KEY_BITS) | BigInt(`0x${Buffer.from(key).toString('hex')}`)
  let digits = ''
  for (; value > 0n; value /= 58n) digits = ALPHABET[Number(value % 58n)] + digits
  return `1${digits}`
}

function numberOf(text: string): bigint {
  let value = 0n
  for (const digit of text.slice(1)) value = value * 58n + BigInt(ALPHABET.indexOf(digit))
  return value
}

/** A peer id in a message or a file. */
export const peerIdSchema = z.string().refine(isPeerId, 'not a peer id')
