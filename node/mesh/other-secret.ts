/**
 * True when the other side has another secret: what it sends cannot be decrypted. A handshake that was merely too slow
 * or broke off has the same name.
 */
export function isOtherSecret(error: unknown): boolean {
  return error instanceof Error && error.name === 'EncryptionFailedError' && /decrypt/i.test(error.message)
}
