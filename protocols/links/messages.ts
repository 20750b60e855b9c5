import { z } from 'zod'
import { reason } from '../fields.ts'
import { LINK_BURST_MAX_BYTES, MIN_LINK_PIECE_BYTES } from './constants.ts'

const bytes = z.int().min(MIN_LINK_PIECE_BYTES).max(LINK_BURST_MAX_BYTES)
export const linkRequest = z.discriminatedUnion('type', [
  z.object({ type: z.literal('echo') }),
  /** Announces so many bytes and asks how long they took to arrive. */
  z.object({ type: z.literal('take'), bytes }),
  z.object({ type: z.literal('give'), bytes })
])
/** `refused`: the request has a field that must be understood and is not. */
export const echoReply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('echo') }),
  z.object({ type: z.literal('busy') }),
  z.object({ type: z.literal('refused'), reason })
])
export const took = z.object({
  type: z.literal('took'),
  bytes: z.int().min(0).max(LINK_BURST_MAX_BYTES),
  ms: z.number().min(0).max(600_000)
})
