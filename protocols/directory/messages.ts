import { z } from 'zod'

/**
 * What the protocol itself checks of a record: its sender and its age. The rest is the schema that the node passes
 * in, so that a field of the directory is added in one place.
 */
export interface RecordHead {
  peerId: string
  sequence: number
}

const time = z.number().min(0).max(1e12)

/** A heartbeat carries the sender's clock; its echo returns the last one heard and how long it was held. */
const heartbeat = {
  at: time,
  echo: z.strictObject({ at: time, heldMs: z.number().min(0).max(60_000) }).optional()
}

export function directoryMessage<R extends RecordHead>(record: z.ZodType<R>) {
  return z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('record'), record }),
    z.strictObject({ type: z.literal('ping'), ...heartbeat }),
    z.strictObject({ type: z.literal('pong'), ...heartbeat })
  ])
}
