import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { HomeFileError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

const identityPath = (home: string) => join(home, 'identity.key')

/** This node's Ed25519 key, made at the first start: its public half is the peer id. */
export async function loadIdentity(home: string): Promise<PrivateKey> {
  const known = await readIdentity(home)
  if (known !== null) return known
  const key = await generateKeyPair('Ed25519')
  await writePrivate(identityPath(home), privateKeyToProtobuf(key))
  return key
}

/**
 * The key of this home, or null before the first start.
 *
 * @throws {HomeFileError} when the file holds anything else
 */
export async function readIdentity(home: string): Promise<PrivateKey | null> {
  const path = identityPath(home)
  const bytes = await readIfThere(path)
  if (bytes === null) return null
  const damaged = `${path} is not a key; remove it and this node gets a new identity`
  try {
    const key = privateKeyFromProtobuf(bytes)
    if (key.type === 'Ed25519') return key
  } catch (error) {
    throw new HomeFileError(damaged, { cause: error })
  }
  throw new HomeFileError(damaged)
}
