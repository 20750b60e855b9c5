import { z } from 'zod'
import {
  MAX_CONTACT_ADDRESSES,
  MAX_CONTACT_NAME_CHARS,
  MAX_CONTACTS,
  MAX_ECHO_HELD_MS
} from '../constants.ts'
import { peerIdSchema } from '../peer-id.ts'

/**
 * What the protocol itself checks of a record: its sender and its age. The rest is the schema that the node passes
 * in, so that a field of the directory is added in one place.
 */
export interface RecordHead {
  peerId: string
  sequence: number
}

const time = z.number().min(0).max(1e12)

/**
 * A heartbeat carries the sender's clock; its echo returns the last one heard and how long it was held. A ping is
 * answered with a pong at once, a beat by the next beat.
 */
const heartbeat = {
  at: time,
  echo: z.strictObject({ at: time, heldMs: z.number().min(0).max(MAX_ECHO_HELD_MS) }).optional()
}

const contact = z.strictObject({
  peerId: peerIdSchema,
  name: z.string().max(MAX_CONTACT_NAME_CHARS),
  addresses: z.array(z.string().min(1).max(256)).max(MAX_CONTACT_ADDRESSES)
})

/** Where the sender reached another member and what that calls itself: a hint, proven or not by the handshake. */
export type Contact = z.output<typeof contact>

export function directoryMessage<R extends RecordHead>(record: z.ZodType<R>) {
  return z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('record'), record }),
    z.strictObject({ type: z.literal('contacts'), contacts: z.array(contact).max(MAX_CONTACTS) }),
    z.strictObject({ type: z.literal('beat'), ...heartbeat }),
    z.strictObject({ type: z.literal('ping'), ...heartbeat }),
    z.strictObject({ type: z.literal('pong'), ...heartbeat })
  ])
}
