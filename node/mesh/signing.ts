import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
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
    const x = base64(publicKeyOf(peerId))
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })
    return verify(null, bytes, key, Buffer.from(signature, 'base64url'))
  } catch {
    // What is no point of the curve is nobody's key, and its caller hears that nobody signed.
    return false
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}
