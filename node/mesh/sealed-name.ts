import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import { plainText } from '../../protocols/text.ts'

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** Names are filled up to this, so that their length says nothing; the rest of a longer one is cut off. */
const NAME_BYTES = 96

/**
 * A device's name as only members can read it, for an announcement that everybody hears.
 *
 * @param key 32 bytes derived from the mesh's secret
 */
export function sealName(key: Uint8Array, name: string): string {
  const padded = Buffer.alloc(NAME_BYTES)
  padded.write(name, 'utf8')
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce)
  return Buffer.concat([nonce, cipher.update(padded), cipher.final(), cipher.getAuthTag()]).toString(
    'base64url'
  )
}

/** The name that a member has sealed, undefined for everything else. */
export function openName(key: Uint8Array, sealed: string): string | undefined {
  const bytes = Buffer.from(sealed, 'base64url')
  if (bytes.length !== NONCE_BYTES + NAME_BYTES + TAG_BYTES) return undefined
  try {
    const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES))
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    const padded = Buffer.concat([
      decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES)),
      decipher.final()
    ]).toString('utf8')
    return plainText(padded.replace(/\0+$/, ''), MAX_NAME_CHARS)
  } catch {
    // It was sealed with another mesh's key, or by nobody: it says nothing.
    return undefined
  }
}
