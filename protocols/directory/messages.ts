import { z } from 'zod'
import { reason } from '../fields.ts'
import { peerIdSchema } from '../peer-id.ts'
import {
  MAX_CONTACT_ADDRESSES,
  MAX_CONTACTS,
  MAX_ECHO_HELD_MS,
  MAX_HAVE_ENTRIES,
  MAX_NAME_CHARS,
  MAX_SIGNED_ENTRIES,
  MAX_WANT_ENTRIES
} from './constants.ts'
import { nodeRecordSchema } from './record.ts'
import { signedRecordSchema } from './signed-record.ts'

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

const relayMessages = [
  /** Signed records that the sender has: of whom, and which. */
  z.object({
    type: z.literal('have'),
    records: z.array(z.tuple([peerIdSchema, z.int().min(0)])).max(MAX_HAVE_ENTRIES)
  }),
  z.object({ type: z.literal('want'), devices: z.array(peerIdSchema).max(MAX_WANT_ENTRIES) }),
  z.object({ type: z.literal('signed'), records: z.array(signedRecordSchema).max(MAX_SIGNED_ENTRIES) }),
  /** Whether the sender would keep the connection; where neither of the two would, either ends it. */
  z.object({ type: z.literal('keep'), keep: z.boolean() })
] as const

/** What is said of records that others hand on, from version 4 of the protocol on. */
export type RelayMessage = z.output<(typeof relayMessages)[number]>

export const directoryMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('record'), record: nodeRecordSchema }),
  z.object({ type: z.literal('contacts'), contacts: z.array(contact).max(MAX_CONTACTS) }),
  z.object({ type: z.literal('beat'), ...heartbeat }),
  z.object({ type: z.literal('ping'), ...heartbeat }),
  z.object({ type: z.literal('pong'), ...heartbeat }),
  /** The last thing on a stream: its sender cannot read what it was sent. */
  z.object({ type: z.literal('refused'), reason }),
  ...relayMessages
])
