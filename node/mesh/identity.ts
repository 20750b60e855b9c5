import { join } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { HomeFileError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

/** This node's Ed25519 key, made at the first start: its public half is the peer id. */
export async function loadIdentity(home: string): Promise<PrivateKey> {
  const path = join(home, 'identity.key')
  const bytes = await readIfThere(path)
  if (bytes === null) {
    const key = await generateKeyPair('Ed25519')
    await writePrivate(path, privateKeyToProtobuf(key))
    return key
  }
  try {
    return privateKeyFromProtobuf(bytes)
  } catch (error) {
    throw new HomeFileError(`${path} is not a key; remove it and this node gets a new identity`, {
      cause: error
    })
  }
}
