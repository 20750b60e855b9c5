import { z } from 'zod'
import { MAX_FRAME_ROWS, MAX_HOLDERS, MAX_LEASE_WAIT_MS, MAX_TOP_LOGPROBS } from '../constants.ts'
import { peerIdSchema } from '../peer-id.ts'

export const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
export const sessionId = z.string().regex(/^[0-9a-f]{32}$/)
export const leaseId = z.string().regex(/^[0-9a-f-]{1,64}$/)

const MAX_LAYERS = 1024
const range = z
  .tuple([z.int().min(0).max(MAX_LAYERS), z.int().min(1).max(MAX_LAYERS)])
  .refine(([start, end]) => start < end, 'a layer range must not be empty')
const MAX_TOKENS = 2 ** 24
const tokens = z.int().min(1).max(MAX_TOKENS)

const sampling = z.strictObject({
  temperature: z.number().min(0).max(100),
  topP: z.number().gt(0).max(1),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  topLogprobs: z.int().min(0).max(MAX_TOP_LOGPROBS)
})

/**
 * Memory for a layer range's weights and for the KV caches of so many sessions at once, of so many tokens each. Where it
 * is in use, the source stands in line for it for at most `waitMs`.
 */
export const reserveRequest = z.strictObject({
  modelId: sha256,
  range,
  maxTokens: tokens,
  sessions: z.int().min(1).max(MAX_FRAME_ROWS),
  waitMs: z.int().min(0).max(MAX_LEASE_WAIT_MS).optional()
})

export const reserveReply = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('granted'), leaseId, expiresInMs: z.number().min(0).max(1e9) }),
  z.strictObject({ type: z.literal('refused'), code: z.string().max(40), reason: z.string().max(500) })
])

/**
 * The lease's layers become a stage: `previous` sends it hidden states, `next` gets what comes out (the source, where
 * the range ends the plan). `holders` have the weights, nearest first.
 */
export const loadRequest = z.strictObject({
  leaseId,
  holders: z.array(peerIdSchema).max(MAX_HOLDERS),
  previous: peerIdSchema,
  next: peerIdSchema
})

export const loadProgress = z.strictObject({
  phase: z.enum(['weights', 'load']),
  done: z
    .number()
    .min(0)
    .max(2 ** 53),
  total: z
    .number()
    .min(0)
    .max(2 ** 53)
})

/** The loaded stage's neighbours from now on: one of them was replaced. Of sessions that are opened after it. */
export const relinkRequest = z.strictObject({ leaseId, previous: peerIdSchema, next: peerIdSchema })

/**
 * A session on a stage. `sampling` where the range holds the head and this stage draws the tokens. It takes one of the
 * lease's slots, the same on every stage, so that neighbours in a micro-batch are neighbours in memory everywhere; the
 * KV cache of the slot's first `keepTokens` tokens, which an earlier session left there, is kept. Of the first
 * `withholdTokens` tokens nothing is handed on: the stages behind have them.
 */
export const openRequest = z.strictObject({
  sessionId,
  leaseId,
  slot: z
    .int()
    .min(0)
    .max(MAX_FRAME_ROWS - 1),
  keepTokens: z.int().min(0).max(MAX_TOKENS),
  withholdTokens: z.int().min(0).max(MAX_TOKENS),
  sampling: sampling.optional()
})

const id = z
  .int()
  .min(0)
  .max(2 ** 31)
const sessionOnly = z.strictObject({ sessionId })
const leaseOnly = z.strictObject({ leaseId })

export const requestMessage = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('reserve'), id, body: reserveRequest }),
  z.strictObject({ type: z.literal('load'), id, body: loadRequest }),
  z.strictObject({ type: z.literal('relink'), id, body: relinkRequest }),
  z.strictObject({ type: z.literal('open'), id, body: openRequest }),
  z.strictObject({ type: z.literal('close'), id, body: sessionOnly }),
  z.strictObject({ type: z.literal('renew'), id, body: leaseOnly }),
  z.strictObject({ type: z.literal('release'), id, body: leaseOnly })
])

export const replyMessage = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('ok'), id, body: z.unknown() }),
  z.strictObject({ type: z.literal('progress'), id, body: loadProgress }),
  z.strictObject({ type: z.literal('failed'), id, code: z.string().max(40), reason: z.string().max(500) })
])

/** `wanted`: others stand in line for memory here. Who starts nothing new lets them have their turn. */
export const renewReply = z.strictObject({
  expiresInMs: z.number().min(0).max(1e9),
  wanted: z.boolean().optional()
})

export type ReserveRequest = z.output<typeof reserveRequest>
export type ReserveReply = z.output<typeof reserveReply>
export type RenewReply = z.output<typeof renewReply>
export type LoadRequest = z.output<typeof loadRequest>
export type LoadProgress = z.output<typeof loadProgress>
export type RelinkRequest = z.output<typeof relinkRequest>
export type OpenRequest = z.output<typeof openRequest>
export type RequestMessage = z.output<typeof requestMessage>
