import { hkdfSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { HomeFileError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

/** Bytes of a mesh's secret: random, never a passphrase, since a stranger who dials gets a tag to test guesses on. */
export const SECRET_BYTES = 32

/** What a mesh's secret becomes on the wire; the secret itself is on none. */
export interface MeshKeys {
  /** Mixed into the noise handshake: without it no handshake succeeds, so no protocol is spoken. */
  prologue: Uint8Array
  /** mDNS service tag: meshes on one network do not see each other. */
  serviceTag: string
}

const secretPath = (home: string) => join(home, 'mesh.key')

/** The secret of the mesh that this home belongs to, or null before the first start. */
export async function readMeshSecret(home: string): Promise<Uint8Array | null> {
  const path = secretPath(home)
  const bytes = await readIfThere(path)
  if (bytes !== null && bytes.byteLength !== SECRET_BYTES) {
    throw new HomeFileError(`${path} is damaged; remove it to start a new mesh, or join again with a ticket`)
  }
  return bytes
}

/** The secret of this home's mesh; a first start makes a mesh of its own. */
export async function loadMeshSecret(home: string): Promise<Uint8Array> {
  const known = await readMeshSecret(home)
  if (known !== null) return known
  const secret = randomBytes(SECRET_BYTES)
  await saveMeshSecret(home, secret)
  return secret
}

export async function saveMeshSecret(home: string, secret: Uint8Array): Promise<void> {
  await writePrivate(secretPath(home), secret)
}

export function meshKeys(secret: Uint8Array): MeshKeys {
  return {
    prologue: derive(secret, 'edgeshard noise prologue 1', 32),
    serviceTag: `_es-${Buffer.from(derive(secret, 'edgeshard mdns tag 1', 8)).toString('hex')}._udp.local`
  }
}

function derive(secret: Uint8Array, purpose: string, bytes: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(0), purpose, bytes))
}
