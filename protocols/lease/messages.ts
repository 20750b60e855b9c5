import { z } from 'zod'
import { MAX_LAYERS } from '../../models/layers.ts'
import { MAX_LANES } from '../../models/onnx/lanes.ts'
import { POOLINGS } from '../../models/runtime/pooling.ts'
import { MAX_CODE_CHARS } from '../constants.ts'
import { REQUEST_ID, reason, sha256 } from '../fields.ts'
import { type Extensible, parseMessage } from '../message.ts'
import { peerIdSchema } from '../peer-id.ts'
import { MAX_FRAME_ROWS, MAX_FRAME_TOKENS } from '../stage/constants.ts'
import { leaseCode } from './codes.ts'
import { MAX_HOLDERS, MAX_KEPT_PREFIXES, MAX_LEASE_WAIT_MS } from './constants.ts'
import { sampling } from './sampling.ts'

const sessionId = z.string().regex(/^[0-9a-f]{32}$/)
const leaseId = z.string().regex(/^[0-9a-f-]{1,64}$/)

/** Why not: a word from a closed set, and a text for people. */
const refusal = {
  code: z.string().max(MAX_CODE_CHARS).transform(leaseCode),
  reason
}
/** What a source calls a request, on every device that works on it. */
const requestId = z.string().regex(REQUEST_ID)

const range = z
  .tuple([z.int().min(0).max(MAX_LAYERS), z.int().min(1).max(MAX_LAYERS)])
  .refine(([start, end]) => start < end, 'a layer range must not be empty')
const MAX_TOKENS = 2 ** 24
const tokens = z.int().min(1).max(MAX_TOKENS)
const prefixKey = z
  .int()
  .min(0)
  .max(MAX_KEPT_PREFIXES - 1)

/**
 * Memory for a layer range's weights, for the KV caches of so many sessions at once, of so many tokens each, and to
 * compute frames of up to `frameTokens` tokens of one session (absent: DEFAULT_FRAME_TOKENS); larger ones are refused. Where it
 * is in use, the source stands in line for it for at most `waitMs`. `begun`: a part of the answer is out already, so a device that is being drained grants it,
 * too (absent: false). `prefetch`: no memory is reserved, and a `load` of the lease brings the weights to the disk, which the device
 * may keep loaded in memory that nobody holds until the lease ends (always named as critical; absent: false). `stand`: nothing is reserved; the source stands beside the line
 * until the stream ends or `waitMs` are over, and hears when nobody is before it who has wanted memory for longer (always named as
 * critical; absent: false). `processor`: the kind of processor that is meant, of those that the device's record names (always named
 * as critical; absent: the one that is used). `requestId`: the request that it is asked for.
 */
export const reserveRequest = z.object({
  modelId: sha256,
  range,
  maxTokens: tokens,
  sessions: z.int().min(1).max(MAX_FRAME_ROWS),
  frameTokens: z.int().min(1).max(MAX_FRAME_TOKENS).optional(),
  waitMs: z.int().min(0).max(MAX_LEASE_WAIT_MS).optional(),
  begun: z.boolean().optional(),
  prefetch: z.boolean().optional(),
  stand: z.boolean().optional(),
  processor: z
    .string()
    .regex(/^[\w-]{1,40}$/)
    .optional(),
  requestId: requestId.optional()
})

const refused = z.object({ type: z.literal('refused'), ...refusal })

/** The answer to `reserve` without `stand`. */
export const reserveReply = z.discriminatedUnion('type', [
  z.object({ type: z.literal('granted'), leaseId, expiresInMs: z.number().min(0).max(1e9) }),
  refused
])

/** The answer to `reserve` with `stand`. `first`: nobody is before the source any more. */
export const standReply = z.discriminatedUnion('type', [z.object({ type: z.literal('first') }), refused])

/**
 * The lease's layers become a stage: `previous` sends it hidden states, `next` gets what comes out (the source, where
 * the range ends the plan). `holders` have the weights, nearest first. `lanes`: sequences with any number of tokens each that
 * one run is to compute; where the layers are loaded already, for another lease, it stays as it is.
 */
export const loadRequest = z.object({
  leaseId,
  holders: z.array(peerIdSchema).max(MAX_HOLDERS),
  previous: peerIdSchema,
  next: peerIdSchema,
  lanes: z.int().min(1).max(MAX_LANES).optional()
})

export const loadProgress = z.object({
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
export const relinkRequest = z.object({ leaseId, previous: peerIdSchema, next: peerIdSchema })

/**
 * A session on a stage. `sampling` where the range holds the head and this stage draws the tokens; `pooling` where it is to pool
 * the hidden states instead. It takes one of the
 * lease's slots, the same on every stage, so that neighbours in a micro-batch are neighbours in memory everywhere; the
 * KV cache of the slot's first `keepTokens` tokens, which an earlier session left there, is kept, or copied from the slot
 * `copyFrom`, whose session may be open, or taken from what was stored under the number `restore`. `store`: what the slot has of its
 * first `tokens` tokens is stored under the number `key` before, in the place of what was. Of the first
 * `withholdTokens` tokens nothing is handed on: the stages behind have them. The first `catchUpTokens` tokens are computed when
 * nothing else waits: the session is built up beside the one whose place it is to take. `states`: where this stage draws, the source is told
 * what the model makes of the tokens. `exact`: what is computed has to be the same to the
 * bit in whatever steps and company. `requestId`: the request that it belongs to.
 */
export const openRequest = z.object({
  sessionId,
  leaseId,
  slot: z
    .int()
    .min(0)
    .max(MAX_FRAME_ROWS - 1),
  keepTokens: z.int().min(0).max(MAX_TOKENS),
  copyFrom: z
    .int()
    .min(0)
    .max(MAX_FRAME_ROWS - 1)
    .optional(),
  restore: prefixKey.optional(),
  store: z.object({ key: prefixKey, tokens }).optional(),
  withholdTokens: z.int().min(0).max(MAX_TOKENS),
  catchUpTokens: z.int().min(0).max(MAX_TOKENS).optional(),
  sampling: sampling.optional(),
  pooling: z.enum(POOLINGS).optional(),
  states: z.boolean().optional(),
  exact: z.boolean().optional(),
  requestId: requestId.optional()
})

/**
 * `exact`: whether the device's kernels keep what was asked for; absent: no. `stored`: whether what was to be stored is; absent: of
 * this lease nothing ever is.
 */
export const openReply = z.object({ exact: z.boolean().optional(), stored: z.boolean().optional() })

const id = z
  .int()
  .min(0)
  .max(2 ** 31)
const sessionOnly = z.object({ sessionId })
const leaseOnly = z.object({ leaseId })

/** What may be asked for, and with what. */
export const requestBodies = {
  reserve: reserveRequest,
  load: loadRequest,
  relink: relinkRequest,
  open: openRequest,
  close: sessionOnly,
  renew: leaseOnly,
  release: leaseOnly
}

export type RequestType = keyof typeof requestBodies

/** Around every request: its body is a message of its own, so that one which cannot be read is answered. */
export const requestMessage = z.object({
  type: z.enum(Object.keys(requestBodies) as [RequestType, ...RequestType[]]),
  id,
  body: z.unknown()
})

/**
 * A request from what is around it and its body.
 *
 * @throws {InvalidMessageError} {NotUnderstoodError} as `parseMessage` of the body
 */
export function parseRequest({ type, id, body }: z.output<typeof requestMessage>): Request {
  return { type, id, body: parseMessage(requestBodies[type], body) } as Request
}

/** Around every reply; what the body of `ok` is depends on what was asked. */
export const replyMessage = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ok'), id, body: z.unknown() }),
  z.object({ type: z.literal('progress'), id, body: loadProgress }),
  z.object({ type: z.literal('failed'), id, ...refusal })
])

/** `wanted`: others stand in line for memory here. A source that starts nothing new lets them have their turn. */
export const renewReply = z.object({
  expiresInMs: z.number().min(0).max(1e9),
  wanted: z.boolean().optional()
})

/** A request with its body as it was sent and checked. */
export type Request = {
  [T in RequestType]: { type: T; id: number; body: z.output<(typeof requestBodies)[T]> }
}[RequestType]

type SentReserve = z.output<typeof reserveRequest> & Extensible

/** What is to be reserved, or stood for. */
export type ReserveRequest = Omit<SentReserve, 'stand'>

/** Fields that make another thing of a reservation: a peer that does not know them must not pass over them. */
const CRITICAL = ['prefetch', 'stand', 'processor'] as const

/** The request as it is sent: those of its fields that a peer has to know are named as critical. */
export function withCritical(request: SentReserve): SentReserve {
  const critical = CRITICAL.filter(field => request[field] !== undefined)
  return critical.length === 0 ? request : { ...request, critical }
}
export type ReserveReply = z.output<typeof reserveReply>
export type StandReply = z.output<typeof standReply>
export type RenewReply = z.output<typeof renewReply>
export type LoadRequest = z.output<typeof loadRequest> & Extensible
export type LoadProgress = z.output<typeof loadProgress>
export type OpenReply = z.output<typeof openReply>
export type RelinkRequest = z.output<typeof relinkRequest> & Extensible
export type OpenRequest = z.output<typeof openRequest> & Extensible
