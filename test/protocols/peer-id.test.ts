import { randomBytes } from 'node:crypto'
import { publicKeyFromRaw } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey, peerIdFromString } from '@libp2p/peer-id'
import { expect, test } from 'vitest'
import { isPeerId } from '../../protocols/peer-id.ts'
import { Random } from './mutate.ts'

const DIGITS = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

test('what is taken for a peer id is what libp2p reads as one', () => {
  const random = new Random(1)
  for (let i = 0; i < 2000; i++) {
    const id = peerIdFromPublicKey(publicKeyFromRaw(randomBytes(32))).toString()
    expect(isPeerId(id)).toBe(true)
    const at = random.below(id.length)
    const changed = id.slice(0, at) + random.pick([...DIGITS]) + id.slice(at + 1)
    expect(isPeerId(changed), changed).toBe(reads(changed))
  }
})

test('nothing else is', () => {
  const id = peerIdFromPublicKey(publicKeyFromRaw(randomBytes(32))).toString()
  const others = ['', 'x', 'A'.repeat(44), id.slice(1), id.slice(0, -1), `${id}1`, `1${id}`, `${id}\n`]
  // A peer id, but of an RSA key.
  others.push('QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N')
  for (const other of others) expect(isPeerId(other), other).toBe(false)
})

function reads(text: string): boolean {
  try {
    return peerIdFromString(text).toString() === text
  } catch {
    return false
  }
}
