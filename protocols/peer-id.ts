import { z } from 'zod'

const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
const FORM = /^1[1-9A-HJ-NP-Za-km-z]{51}$/
/** Before the 256 bits of an Ed25519 key: its length as a digest (36), then protobuf for type 1 and 32 bytes. */
const HEAD = 0x24_08_01_12_20n

/**
 * Whether a text is a peer id of this mesh: an Ed25519 key in base58, in the one way it is written. libp2p throws at
 * anything else, and a list of bans or contacts with such an entry would fail as a whole.
 */
export function isPeerId(text: string): boolean {
  if (!FORM.test(text)) return false
  let value = 0n
  for (const digit of text.slice(1)) value = value * 58n + BigInt(ALPHABET.indexOf(digit))
  return value >> 256n === HEAD
}

/** A peer id in a message or a file. */
export const peerIdSchema = z.string().refine(isPeerId, 'not a peer id')
