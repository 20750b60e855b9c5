import { z } from 'zod'
import { LINK_BURST_MAX_BYTES, MIN_LINK_PIECE_BYTES } from '../constants.ts'

const bytes = z.int().min(MIN_LINK_PIECE_BYTES).max(LINK_BURST_MAX_BYTES)
export const linkRequest = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('echo') }),
  /** So many bytes follow; how long did they take to arrive? */
  z.strictObject({ type: z.literal('take'), bytes }),
  z.strictObject({ type: z.literal('give'), bytes })
])
export const echo = z.strictObject({ type: z.enum(['echo', 'busy']) })
export const took = z.strictObject({
  type: z.literal('took'),
  bytes: z.int().min(0).max(LINK_BURST_MAX_BYTES),
  ms: z.number().min(0).max(600_000)
})
