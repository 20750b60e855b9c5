import { z } from 'zod'
import { MAX_CODE_CHARS } from '../constants.ts'
import { reason } from '../fields.ts'
import { isMembershipCode, type MembershipCode } from './codes.ts'
import { MAX_COUNTER, MAX_PAGE_STATEMENTS, MAX_PROOF_STATEMENTS } from './constants.ts'
import { meshNameSchema, rotationSchema, statementSchema } from './statement.ts'

const timeMs = z.number().min(0).max(1e14)
const proof = z.array(statementSchema).max(MAX_PROOF_STATEMENTS)
const hex32 = z.string().regex(/^[0-9a-f]{32}$/)

export const helloMessage = z.object({
  type: z.literal('hello'),
  mesh: meshNameSchema,
  epoch: z.int().min(0).max(MAX_COUNTER),
  /** What leads from the founder to the sender. */
  proof,
  /** Of the sender's set of statements. */
  digest: z.string().regex(/^[0-9a-f]{64}$/)
})

export const refusedMessage = z.object({
  type: z.literal('refused'),
  code: z
    .string()
    .max(MAX_CODE_CHARS)
    .optional()
    .transform((word): MembershipCode => (isMembershipCode(word) ? word : 'internal')),
  reason: reason.optional(),
  /** What the clock of the sender shows, and until when a ticket was good: ms since 1970. */
  nowMs: timeMs.optional(),
  expiresAtMs: timeMs.optional()
})

export const pageMessage = z.object({
  type: z.literal('statements'),
  statements: z.array(statementSchema).max(MAX_PAGE_STATEMENTS),
  more: z.boolean()
})

export const sameMessage = z.object({ type: z.literal('same') })

export const redeemMessage = z.object({
  type: z.literal('redeem'),
  mesh: meshNameSchema,
  /** 16 bytes in hex. */
  code: hex32
})

export const admittedMessage = z.object({
  type: z.literal('admitted'),
  /** What leads from the founder to the device that asked. */
  proof,
  epoch: z.int().min(0).max(MAX_COUNTER),
  secret: rotationSchema.shape.secret,
  /** Who changed the secret last; absent at epoch 0. */
  by: rotationSchema.shape.by.optional(),
  signature: rotationSchema.shape.signature.optional()
})

export const rotateMessage = rotationSchema.extend({ type: z.literal('rotate') })

/** The first message of a stream. */
export const openingMessage = z.discriminatedUnion('type', [helloMessage, redeemMessage, rotateMessage])
/** The answer to `hello`, and what the opener says to that. */
export const helloReply = z.discriminatedUnion('type', [helloMessage, refusedMessage])
export const helloEnd = z.discriminatedUnion('type', [sameMessage, pageMessage, refusedMessage])
export const redeemReply = z.discriminatedUnion('type', [admittedMessage, refusedMessage])
/** `later`: the peer has a secret that wins over the one it was told, and passes that on. */
export const rotateReply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('adopted') }),
  refusedMessage,
  z.object({ type: z.literal('later'), rotation: rotationSchema })
])

export type Hello = Omit<z.output<typeof helloMessage>, 'type'>
export type Refusal = Omit<z.output<typeof refusedMessage>, 'type'>
export type Redeem = Omit<z.output<typeof redeemMessage>, 'type'>
export type Admitted = Omit<z.output<typeof admittedMessage>, 'type'>
export type RotateReply = z.output<typeof rotateReply>
