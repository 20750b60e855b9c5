import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { RecurrenceSchema } from './recurrence-schema.ts'

/** What is quoted of a value that is refused. */
const MAX_QUOTED = 40
/** Far above any context, far below what breaks arithmetic. */
const MAX_TOKENS = 2 ** 30
/** The largest head, and so twice the pairs that one can be turned in. */
export const MAX_HEAD_SIZE = 1024
/** Experts of a layer: each is a branch of its graph. */
export const MAX_EXPERTS = 512

export const size = (max: number) => z.int().min(1).max(max)
const positive = z
  .number()
  .positive()
  .lt(2 ** 40)

/** One of the values that this version computes; any other is refused by its name. */
export function known<const T extends string>(...values: [T, ...T[]]) {
  return z.enum(values, { error: ({ input }) => unknownValue(input, values) })
}

function unknownValue(input: unknown, values: readonly string[]): string {
  return `${(JSON.stringify(input) ?? 'nothing').slice(0, MAX_QUOTED)} is not known here; known are ${values.join(', ')}`
}

function kindOf(input: unknown): unknown {
  return typeof input === 'object' && input !== null && 'kind' in input ? input.kind : undefined
}

const Linear = z.strictObject({ type: z.literal('linear'), factor: positive })
const Llama3 = z.strictObject({
  type: z.literal('llama3'),
  factor: positive,
  lowFreqFactor: positive,
  highFreqFactor: positive,
  originalContextLength: size(MAX_TOKENS)
})
const Yarn = z.strictObject({
  type: z.literal('yarn'),
  factor: positive,
  /** Turns within the original context above which a frequency stays, and below which it is stretched in full. */
  betaFast: positive,
  betaSlow: positive,
  originalContextLength: size(MAX_TOKENS),
  /** What cosines and sines are multiplied with. */
  magnitude: positive,
  /** The ends of the ramp between the two are not rounded to whole pairs. */
  unrounded: z.literal(true).exactOptional()
})
const Divided = z.strictObject({
  type: z.literal('divided'),
  /** What the frequency of each pair is divided by. */
  divisors: z
    .array(positive)
    .min(1)
    .max(MAX_HEAD_SIZE / 2),
  /** What cosines and sines are multiplied with. */
  magnitude: positive
})

const Proportional = z.strictObject({
  type: z.literal('proportional'),
  /** Only the first so many pairs of a head turn, at the frequencies that they have among all. */
  pairs: size(MAX_HEAD_SIZE / 2)
})

/** How version 1 said it. */
export const RopeV1 = z.strictObject({
  theta: positive,
  scaling: z.discriminatedUnion('type', [Linear, Llama3]).exactOptional()
})

export const Rope = z.strictObject({
  theta: positive,
  /** So many of a head's values are turned, the first ones; absent: all. */
  rotated: size(MAX_HEAD_SIZE).multipleOf(2).exactOptional(),
  /** How long contexts are stretched. */
  scaling: z.discriminatedUnion('type', [Linear, Llama3, Yarn, Divided, Proportional]).exactOptional()
})

/** Rotary embedding: its base, how much of a head it turns, and how long contexts are stretched. */
export type RopeSpec = z.infer<typeof Rope>

const FEED_FORWARD_KINDS = ['gated', 'experts', 'none'] as const
const gatedUnit = {
  /** `gelu` is the exact one, `gelu-tanh` its usual approximation, `quick-gelu` is x sigmoid(1.702 x), `relu2` max(x, 0)^2. */
  activation: known('silu', 'gelu', 'gelu-tanh', 'quick-gelu', 'relu2'),
  /** There is no gate: down(activation(up(x))). */
  ungated: z.literal(true).exactOptional(),
  /** Its own size, of experts that of each, where it is not the model's `ffnSize`. */
  size: size(2 ** 18).exactOptional(),
  /** gate(x) is at most so large, and up(x) so far from 0. */
  limit: positive.exactOptional(),
  /** 1 is added to up(x), once that is within the limit. */
  upPlusOne: z.literal(true).exactOptional()
}

/** What units without a gate have not been seen with. */
const isPlainlyUngated = (unit: Record<string, unknown>) =>
  unit.ungated === undefined || ['limit', 'upPlusOne', 'bias', 'beside'].every(key => unit[key] === undefined)
const NOT_UNGATED = { error: 'a unit without a gate has no limit, no bias, and no dense unit beside it' }

/** down(activation(gate(x)) * up(x)) */
const Gated = z.strictObject({ kind: z.literal('gated'), ...gatedUnit }).refine(isPlainlyUngated, NOT_UNGATED)

/** The layer has none: it mixes tokens, and that is all. */
const NoFeedForward = z.strictObject({ kind: z.literal('none') })

/** The sum of what a few experts of many make of x, each a gated unit, by weights that a router gives them. */
const Experts = z
  .strictObject({
    kind: z.literal('experts'),
    ...gatedUnit,
    experts: size(MAX_EXPERTS),
    /** So many compute a token: those to which the router gives the highest scores. */
    used: size(MAX_EXPERTS),
    /** How scores become weights: their softmax over all experts, or the logistic function of each. */
    router: known('softmax', 'sigmoid'),
    /** The router and both projections of each expert have biases; one that computes every token has none. */
    bias: z.literal(true).exactOptional(),
    /** Those are used whose weights are highest after a number of its own is added to each; it counts for nothing else. */
    corrected: z.literal(true).exactOptional(),
    /** The weights of those that are used are divided by their sum. */
    normalised: z.literal(true).exactOptional(),
    /**
     * Experts stand in so many groups of neighbours, and only those of the best `used` groups are looked at: a group is as good as
     * its highest weight, or as its two highest together, corrected where they are.
     */
    groups: z
      .strictObject({
        count: size(MAX_EXPERTS),
        used: size(MAX_EXPERTS),
        score: known('highest', 'best-two')
      })
      .exactOptional(),
    /** One more that computes every token; `gated`: times sigmoid(gate(x)), one number a token. */
    shared: z.strictObject({ size: size(2 ** 18), gated: z.literal(true).exactOptional() }).exactOptional(),
    /**
     * A gated unit of the model's `ffnSize` computes every token beside them: what goes into either, into the router, and
     * what comes out of either is normalised apart, and an expert's weight is multiplied with a number of its own.
     */
    beside: z.literal(true).exactOptional()
  })
  .refine(isPlainlyUngated, NOT_UNGATED)
  .refine(({ used, experts }) => used <= experts, { error: 'used is more than there are experts' })
  .refine(hasGroups, { error: 'groups do not fit the experts' })
  .refine(({ beside, shared }) => !beside || shared === undefined, {
    error: 'a shared expert and a dense unit beside experts are not known together'
  })

/** Groups are equal ones, some of them are left out, and those that are not have enough experts. */
function hasGroups({
  experts,
  used,
  groups
}: {
  experts: number
  used: number
  groups?: { count: number; used: number; score: string }
}): boolean {
  if (groups === undefined) return true
  const each = experts / groups.count
  return (
    Number.isInteger(each) &&
    groups.used < groups.count &&
    groups.used * each >= used &&
    (groups.score === 'highest' || each >= 2)
  )
}

/** Sizes of attention over a latent vector of each token. */
const Latent = z.strictObject({
  /** The latent vector that keys and values of all heads are made of. */
  size: size(MAX_HEAD_SIZE),
  /** Values of a head's query and key that no position turns, before those that are turned. */
  unturned: size(MAX_HEAD_SIZE),
  /** Values of a head. */
  value: size(MAX_HEAD_SIZE),
  /** Queries are made of a latent vector of this size; absent: of the hidden state. */
  query: size(2 ** 16).exactOptional()
})

/** What a block with a latent vector may say besides: nothing else has been seen there. */
const BESIDE_LATENT = ['heads', 'kvHeads', 'headSize', 'rope', 'scale']
const isLatentAlone = ({ kind, latent, bias, queryKeyNorm, rotary, ...others }: Record<string, unknown>) =>
  kind === 'latent'
    ? latent !== undefined &&
      isDeepStrictEqual([bias, queryKeyNorm, rotary], ['none', 'none', 'half-split']) &&
      Object.keys(others).every(key => others[key] === undefined || BESIDE_LATENT.includes(key))
    : latent === undefined

const Attention = z
  .strictObject({
    /**
     * How tokens are mixed: softmax attention in which groups of query heads share a key and value head, or in which keys and
     * values of all heads are made of one `latent` vector a token, and of one part that is turned: `kvHeads` is 1, and `headSize` what
     * both take. None where there is a recurrence.
     */
    kind: known('grouped-query', 'latent', 'none'),
    latent: Latent.exactOptional(),
    /** Which projections have biases: none, those to q, k and v, or the output's as well. */
    bias: known('none', 'qkv', 'all'),
    /**
     * What q and k are normalised over before they are turned: nothing, each head apart, or all heads together; or each head apart
     * once it is turned.
     */
    queryKeyNorm: known('none', 'head', 'all', 'head-turned'),
    /** How q and k are turned by their positions: value i of a head with value i + rotated / 2, or not at all. */
    rotary: known('half-split', 'none'),
    /** Each head of v has a norm without weights. */
    valueNorm: z.literal(true).exactOptional(),
    /** Its own sizes, where they are not the model's. */
    heads: size(1024).exactOptional(),
    kvHeads: size(1024).exactOptional(),
    headSize: size(MAX_HEAD_SIZE).exactOptional(),
    /** Its own turning, where it is not the model's. */
    rope: Rope.exactOptional(),
    /** A token attends to so many, itself and those right before it; absent: to all. */
    window: size(MAX_TOKENS).exactOptional(),
    /** What scores are multiplied with, where it is not 1 / sqrt(headSize). */
    scale: positive.exactOptional(),
    /** Scores are kept within it: softcap tanh(score / softcap). */
    softcap: positive.exactOptional(),
    /** Each head has a score more, which takes its part of the softmax and has no value. */
    sinks: z.literal(true).exactOptional(),
    /** A query at `position` is multiplied with 1 + factor log(1 + floor(position / tokens)). */
    queryGrowth: z.strictObject({ factor: positive, tokens: size(MAX_TOKENS) }).exactOptional(),
    /** What comes out is multiplied with the logistic function of as many values that are projected beside q, k and v. */
    outputGate: z.literal(true).exactOptional()
  })
  .refine(isLatentAlone, { error: 'latent does not go with the kind, or with the rest' })

export const BlockSchema = z
  .strictObject({
    attention: Attention,
    /** What mixes tokens where there is no attention. */
    recurrence: RecurrenceSchema.exactOptional(),
    feedForward: z.discriminatedUnion('kind', [Gated, Experts, NoFeedForward], {
      error: ({ code, input }) =>
        code === 'invalid_union' ? unknownValue(kindOf(input), FEED_FORWARD_KINDS) : undefined
    }),
    /** Where attention and feed-forward part are normalised: what goes in, what comes out, or both. */
    norms: known('before', 'after', 'around'),
    /** What the layer has made of the stream is multiplied with a number. */
    outputScale: z.literal(true).exactOptional(),
    /**
     * What goes in is projected out of two that are normalised each, one behind the other: the token's embedding and what the
     * model made of the token before it. Only of a layer that guesses (models/guessing.ts).
     */
    joins: known('token-first', 'hidden-first').exactOptional()
  })
  .refine(mixesOnce, { error: 'a block attends, or has a recurrence and says nothing else of attention' })
  .refine(isPlainlyHalf, { error: 'a block of one part is normalised before it, and joins nothing' })

/** What a block without attention says of it. */
export const NO_ATTENTION = { kind: 'none', bias: 'none', queryKeyNorm: 'none', rotary: 'none' } as const

interface Parts {
  attention: { kind: string }
  recurrence?: unknown
  feedForward: { kind: string }
}

/** A block that mixes no tokens has a feed-forward part, which is all of it. */
function mixesOnce({ attention, recurrence, feedForward }: Parts): boolean {
  if (attention.kind !== 'none') return recurrence === undefined
  return (
    isDeepStrictEqual(attention, NO_ATTENTION) && (recurrence !== undefined || feedForward.kind !== 'none')
  )
}

function isPlainlyHalf({ norms, joins, ...parts }: Parts & { norms: string; joins?: unknown }): boolean {
  const isWhole = mixesTokens(parts) && parts.feedForward.kind !== 'none'
  return isWhole || (norms === 'before' && joins === undefined)
}

/** Whether a block attends or has a recurrence: one that does not is a feed-forward part alone. */
export function mixesTokens({ attention, recurrence }: Omit<Parts, 'feedForward'>): boolean {
  return attention.kind !== 'none' || recurrence !== undefined
}

/** A unit that computes a token: the layer's feed-forward part, or what each of its experts has. */
export type UnitSpec = z.infer<typeof Gated> | ExpertsSpec

/** A feed-forward part of experts, of which each token is computed by a few. */
export type ExpertsSpec = z.infer<typeof Experts>

/** Sizes of attention in which keys and values are made of a latent vector. */
export type LatentSpec = z.infer<typeof Latent>

/** What a decoder layer computes; a model has one block, or a few that its layers take turns in. */
export type Block = z.infer<typeof BlockSchema>
