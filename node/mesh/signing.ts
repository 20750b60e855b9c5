import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdOfKey, publicKeyOf } from '../../protocols/peer-id.ts'

/** A device's key, as far as it signs what others believe of it. */
export interface Signer {
  readonly peerId: string
  /** An Ed25519 signature, 64 bytes in base64url. */
  sign(bytes: Uint8Array): string
}

const KEY_BYTES = 32

/** The signer of an identity. */
export function signerOf(identity: PrivateKey): Signer {
  const [d, x] = [identity.raw.subarray(0, KEY_BYTES), identity.raw.subarray(KEY_BYTES)]
  const key = createPrivateKey({
    key: { kty: 'OKP', crv: 'Ed25519', d: base64(d), x: base64(x) },
    format: 'jwk'
  })
  return { peerId: peerIdOfKey(x), sign: bytes => sign(null, bytes, key).toString('base64url') }
}

/** Whether the key that a peer id holds has signed the bytes. */
export function isSignedBy(peerId: string, bytes: Uint8Array, signature: string): boolean {
  try {
    return verify(null, bytes, keyOf(peerId), Buffer.from(signature, 'base64url'))
  } catch {
    // What is no point of the curve is nobody's key, and its caller hears that nobody signed.
    return false
  }
}

/** Keys that signatures were checked with: to make one takes as long as to check a signature, and each device signs again and again. */
const keys = new Map<string, KeyObject>()
const MAX_KEYS = 2048

/** @throws where the peer id holds no point of the curve */
function keyOf(peerId: string): KeyObject {
  let key = keys.get(peerId)
  if (key === undefined) {
    const x = base64(publicKeyOf(peerId))
    key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
    if (keys.size >= MAX_KEYS) keys.clear()
    keys.set(peerId, key)
  }
  return key
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}
