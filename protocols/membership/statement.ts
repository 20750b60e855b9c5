import { z } from 'zod'
import { isPeerId, peerIdSchema } from '../peer-id.ts'
import { MAX_COUNTER } from './constants.ts'

/** `FOUNDER.NONCE`: the peer id of the device that made a mesh, and 16 bytes in hex that it drew. */
export type MeshName = string

const NONCE = /^[0-9a-f]{32}$/

export const meshNameSchema = z
  .string()
  .max(100)
  .refine(text => {
    const [founder = '', nonce = '', ...rest] = text.split('.')
    return rest.length === 0 && NONCE.test(nonce) && isPeerId(founder)
  }, 'not the name of a mesh')

/** The peer id of the device that made a mesh. */
export function founderOf(mesh: MeshName): string {
  return mesh.slice(0, mesh.indexOf('.'))
}

const signed = {
  /** The peer id that the statement is about. */
  device: peerIdSchema,
  /** The peer id whose key signs. */
  by: peerIdSchema,
  /** 64 bytes in base64url. */
  signature: z.string().regex(/^[\w-]{86}$/)
}
const counter = z.int().min(1).max(MAX_COUNTER)

/** What a device says of another one about the mesh, signed, so that it may come from anybody. */
export const statementSchema = z.discriminatedUnion('type', [
  /** `counter`: that of the statement that counts about the signer's own ban, 0 where there is none. */
  z.object({ type: z.literal('admit'), ...signed, counter: z.int().min(0).max(MAX_COUNTER) }),
  z.object({ type: z.literal('owner'), ...signed }),
  z.object({ type: z.literal('ban'), ...signed, counter }),
  z.object({ type: z.literal('unban'), ...signed, counter })
])

export type Statement = z.output<typeof statementSchema>

/** A statement before it is signed. */
export type Unsigned<S extends Statement = Statement> = S extends Statement ? Omit<S, 'signature'> : never

/** One line that is the same for two statements that say the same. */
export function lineOf(statement: Unsigned): string {
  return `${statement.type} ${statement.device} ${counterOf(statement)} ${statement.by}`
}

/** The bytes that a statement's signature covers; the mesh's name among them, so that it says nothing in another one. */
export function signedBytes(mesh: MeshName, statement: Unsigned): Uint8Array {
  const { type, device, by } = statement
  return lines('edgeshard statement 1', mesh, type, device, `${counterOf(statement)}`, by)
}

export const rotationSchema = z.object({
  /** One more than that of the secret before. */
  epoch: counter,
  /** 32 bytes in hex. */
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  by: signed.by,
  signature: signed.signature
})

/** A new secret of the mesh, signed by an owner. */
export type Rotation = z.output<typeof rotationSchema>

/** The bytes that a rotation's signature covers. */
export function rotationBytes(
  mesh: MeshName,
  { epoch, secret, by }: Omit<Rotation, 'signature'>
): Uint8Array {
  return lines('edgeshard rotation 1', mesh, `${epoch}`, secret, by)
}

function counterOf(statement: Unsigned): number {
  return 'counter' in statement ? statement.counter : 0
}

function lines(...parts: string[]): Uint8Array {
  return new Uint8Array(Buffer.from(parts.join('\n'), 'utf8'))
}
