import { z } from 'zod'
import { reason } from '../fields.ts'
import { peerIdSchema } from '../peer-id.ts'
import { MAX_BANNED } from './constants.ts'

export const membershipChange = z.object({
  /** One more than the change's before. */
  epoch: z
    .int()
    .min(1)
    .max(2 ** 31),
  /** 32 bytes in hex. */
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  /** Peers that must not hear of it. */
  banned: z.array(peerIdSchema).max(MAX_BANNED)
})

/** `later`: the peer has a change that wins over the one it was told, and passes that on. */
export const membershipReply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('adopted') }),
  z.object({ type: z.literal('refused'), reason: reason.optional() }),
  z.object({ type: z.literal('later'), rotation: membershipChange })
])

export type MembershipChange = z.output<typeof membershipChange>
export type MembershipReply = z.output<typeof membershipReply>
