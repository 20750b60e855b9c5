import { z } from 'zod'
import { reason } from '../fields.ts'
import { peerIdSchema } from '../peer-id.ts'
import { MAX_CONTACT_ADDRESSES, MAX_CONTACTS, MAX_ECHO_HELD_MS, MAX_NAME_CHARS } from './constants.ts'
import { nodeRecordSchema } from './record.ts'

const time = z.number().min(0).max(1e12)

/**
 * A heartbeat carries the sender's clock; its echo returns the last one heard and how long it was held. A ping is
 * answered with a pong at once, a beat by the next beat.
 */
const heartbeat = {
  at: time,
  echo: z.object({ at: time, heldMs: z.number().min(0).max(MAX_ECHO_HELD_MS) }).optional()
}

const contact = z.object({
  peerId: peerIdSchema,
  name: z.string().max(MAX_NAME_CHARS),
  addresses: z.array(z.string().min(1).max(256)).max(MAX_CONTACT_ADDRESSES)
})

/** Addresses at which the sender reached another member, and its name: a hint, proven or not by the handshake. */
export type Contact = z.output<typeof contact>

export const directoryMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('record'), record: nodeRecordSchema }),
  z.object({ type: z.literal('contacts'), contacts: z.array(contact).max(MAX_CONTACTS) }),
  z.object({ type: z.literal('beat'), ...heartbeat }),
  z.object({ type: z.literal('ping'), ...heartbeat }),
  z.object({ type: z.literal('pong'), ...heartbeat }),
  /** The last thing on a stream: its sender cannot read what it was sent. */
  z.object({ type: z.literal('refused'), reason })
])
