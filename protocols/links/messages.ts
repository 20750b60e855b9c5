import { z } from 'zod'
import { reason } from '../fields.ts'
import { LINK_BURST_MAX_BYTES, MIN_LINK_PIECE_BYTES } from './constants.ts'

const bytes = z.int().min(MIN_LINK_PIECE_BYTES).max(LINK_BURST_MAX_BYTES)
export const linkRequest = z.discriminatedUnion('type', [
  /** `glance`, in the first one: a few small bursts at most, so that it may be while tokens flow. */
  z.object({ type: z.literal('echo'), glance: z.boolean().optional() }),
  /** Announces so many bytes and asks how long they took to arrive. */
  z.object({ type: z.literal('take'), bytes }),
  z.object({ type: z.literal('give'), bytes })
])
/**
 * `starved`: since the stream was opened the device had too little of its processors to time anything. `refused`: the request has
 * a field that must be understood and is not.
 */
export const echoReply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('echo'), starved: z.boolean().optional() }),
  z.object({ type: z.literal('busy') }),
  z.object({ type: z.literal('refused'), reason })
])
export const took = z.object({
  type: z.literal('took'),
  bytes: z.int().min(0).max(LINK_BURST_MAX_BYTES),
  ms: z.number().min(0).max(600_000)
})
