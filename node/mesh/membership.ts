import { hkdfSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { MAX_BANNED } from '../../protocols/membership/constants.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { HomeFileError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

/** Bytes of a mesh's secret: random, never a passphrase, since a stranger that dials gets a tag to test guesses on. */
export const SECRET_BYTES = 32

/** What a mesh's secret becomes on the wire; the secret itself is on none. */
export interface MeshKeys {
  /** Mixed into the noise handshake: without it no handshake succeeds, so no protocol is spoken. */
  prologue: Uint8Array
  /** mDNS service tag: meshes on one network do not see each other. */
  serviceTag: string
  /** The same for the announcements on each interface. */
  interfaceTag: string
  /** Seals names in announcements. */
  nameKey: Uint8Array
}

/** What a node keeps of its mesh besides the identity. */
export interface Membership {
  secret: Uint8Array
  /** How often secret or ban list were changed; the higher one wins. */
  epoch: number
  /** Peer ids that are not let in. */
  banned: string[]
}

const file = z.strictObject({
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  epoch: z.int().min(0),
  // What is no peer id bans no peer, and must not keep the node from starting.
  banned: z
    .array(z.string().max(128))
    .max(MAX_BANNED)
    .transform(list => list.filter(isPeerId))
})

const membershipPath = (home: string) => join(home, 'mesh.json')

/** The mesh that this home belongs to, or null before the first start. */
export async function readMembership(home: string): Promise<Membership | null> {
  const path = membershipPath(home)
  const bytes = await readIfThere(path)
  if (bytes === null) return null
  try {
    const { secret, ...rest } = file.parse(JSON.parse(bytes.toString('utf8')))
    return { ...rest, secret: new Uint8Array(Buffer.from(secret, 'hex')) }
  } catch (error) {
    throw new HomeFileError(
      `${path} is damaged; remove it to start a new mesh, or join again with a ticket`,
      {
        cause: error
      }
    )
  }
}

/** The mesh of this home; a first start makes one of its own. */
export async function loadMembership(home: string): Promise<Membership> {
  const known = await readMembership(home)
  if (known !== null) return known
  const made = { secret: newSecret(), epoch: 0, banned: [] }
  await saveMembership(home, made)
  return made
}

/** One file with mode 0600, so that secret, epoch and bans never contradict each other. */
export async function saveMembership(home: string, { secret, ...rest }: Membership): Promise<void> {
  const text = JSON.stringify({ secret: Buffer.from(secret).toString('hex'), ...rest })
  await writePrivate(membershipPath(home), Buffer.from(text))
}

export function newSecret(): Uint8Array {
  return new Uint8Array(randomBytes(SECRET_BYTES))
}

export function meshKeys(secret: Uint8Array): MeshKeys {
  return {
    prologue: derive(secret, 'edgeshard noise prologue 1', 32),
    serviceTag: `_es-${tag(secret)}._udp.local`,
    interfaceTag: `_esi-${tag(secret)}._udp.local`,
    nameKey: derive(secret, 'edgeshard mdns name 1', 32)
  }
}

function tag(secret: Uint8Array): string {
  return Buffer.from(derive(secret, 'edgeshard mdns tag 1', 8)).toString('hex')
}

function derive(secret: Uint8Array, purpose: string, bytes: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(0), purpose, bytes))
}
