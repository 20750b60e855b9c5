import { hkdfSync, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import {
  type MeshName,
  meshNameSchema,
  rotationSchema,
  type Statement,
  statementSchema
} from '../../protocols/membership/statement.ts'
import { peerIdSchema } from '../../protocols/peer-id.ts'
import { HomeFileError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'
import type { SecretState } from './rotations.ts'

/** Bytes of a mesh's secret: random, never a passphrase, since a stranger that dials gets a tag to test guesses on. */
export const SECRET_BYTES = 32
/** What tells two meshes of one founder apart. */
export const MESH_NONCE_BYTES = 16

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
export interface Membership extends SecretState {
  mesh: MeshName
  /** What is known of who is in. */
  statements: Statement[]
  /** What devices called themselves, by peer id. */
  names?: Record<string, string> | undefined
}

const file = z.strictObject({
  mesh: meshNameSchema,
  secret: rotationSchema.shape.secret,
  epoch: z.int().min(0),
  signed: rotationSchema.pick({ by: true, signature: true }).optional(),
  statements: z.array(statementSchema),
  names: z.record(peerIdSchema, z.string().max(MAX_NAME_CHARS)).optional()
})

/** As it was when the secret alone made a member. */
const oldFile = z.looseObject({ secret: z.string(), epoch: z.int(), banned: z.array(z.unknown()) })

const membershipPath = (home: string) => join(home, 'mesh.json')

/**
 * The mesh that this home belongs to, or null before the first start.
 *
 * @throws {HomeFileError} where the file is damaged or of a version in which every copy of it was a member
 */
export async function readMembership(home: string): Promise<Membership | null> {
  const path = membershipPath(home)
  const bytes = await readIfThere(path)
  if (bytes === null) return null
  try {
    const { secret, ...rest } = file.parse(JSON.parse(bytes.toString('utf8')))
    return { ...rest, secret: new Uint8Array(Buffer.from(secret, 'hex')) }
  } catch (error) {
    throw new HomeFileError(
      isOld(bytes)
        ? `${path} is of an earlier version, in which whoever had a copy of it was a member, and devices are admitted ` +
            'one by one now: remove it on all devices, start one (it makes a new mesh), and join with the others, each with a ticket of its own'
        : `${path} is damaged; remove it to start a new mesh, or join again with a ticket`,
      { cause: error }
    )
  }
}

function isOld(bytes: Buffer): boolean {
  try {
    return oldFile.safeParse(JSON.parse(bytes.toString('utf8'))).success
  } catch {
    // It is no JSON, and the caller says so.
    return false
  }
}

/** The mesh of this home; a first start makes one of its own, whose founder is `peerId`, this device. */
export async function loadMembership(home: string, peerId: string): Promise<Membership> {
  const known = await readMembership(home)
  if (known !== null) return known
  const mesh = `${peerId}.${randomBytes(MESH_NONCE_BYTES).toString('hex')}`
  const made = { mesh, secret: newSecret(), epoch: 0, statements: [] }
  await saveMembership(home, made)
  return made
}

/** One file with mode 0600, so that secret, epoch and statements never contradict each other. */
export async function saveMembership(home: string, { secret, ...rest }: Membership): Promise<void> {
  const text = JSON.stringify({ ...rest, secret: Buffer.from(secret).toString('hex') })
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
