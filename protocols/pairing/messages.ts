import { z } from 'zod'
import { MAX_CODE_CHARS } from '../constants.ts'
import { peerIdSchema } from '../peer-id.ts'
import { isPairingCode, type PairingCode } from './codes.ts'
import { MAX_SEALED_CHARS } from './constants.ts'

const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`))

export const startMessage = z.object({
  type: z.literal('start'),
  /** 16 bytes that the device draws. */
  sid: hex(16),
  /** Peer id that the device has in meshes; the ticket will be for it alone. */
  device: peerIdSchema,
  share: hex(32)
})

export const shareMessage = z.object({ type: z.literal('share'), share: hex(32) })

export const confirmMessage = z.object({ type: z.literal('confirm'), tag: hex(64) })

export const ticketMessage = z.object({
  type: z.literal('ticket'),
  tag: hex(64),
  nonce: hex(12),
  /** The ticket under the key that the code made, in base64url. */
  ticket: z
    .string()
    .max(MAX_SEALED_CHARS)
    .regex(/^[\w-]+$/)
})

export const refusedMessage = z.object({
  type: z.literal('refused'),
  code: z
    .string()
    .max(MAX_CODE_CHARS)
    .optional()
    .transform((word): PairingCode => (isPairingCode(word) ? word : 'internal'))
})

export const startReply = z.discriminatedUnion('type', [shareMessage, refusedMessage])
export const confirmReply = z.discriminatedUnion('type', [ticketMessage, refusedMessage])

export type Start = Omit<z.output<typeof startMessage>, 'type'>
