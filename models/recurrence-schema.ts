import { z } from 'zod'

const size = (max: number) => z.int().min(1).max(max)
/** Tokens that a convolution sees at most: known models have 3 and 4. */
const MAX_TAPS = 16
const MAX_HEADS = 1024
const MAX_HEAD_SIZE = 1024

/** A convolution over each channel's last tokens, the newest one among them. */
const taps = size(MAX_TAPS).min(2)

/**
 * Gated DeltaNet (arXiv 2412.06464, as Qwen3-Next has it): each value head has a matrix, which forgets by a factor that hangs on
 * the token, is corrected by what the token's value has more than it says for the token's key, and is read by its query.
 */
const GatedDelta = z
  .strictObject({
    kind: z.literal('gated-delta'),
    taps,
    keyHeads: size(MAX_HEADS),
    valueHeads: size(MAX_HEADS),
    keySize: size(MAX_HEAD_SIZE),
    valueSize: size(MAX_HEAD_SIZE),
    /** Value head i has key head i modulo keyHeads; absent: neighbouring ones share one. */
    keysByTurns: z.literal(true).exactOptional()
  })
  .refine(({ keyHeads, valueHeads }) => valueHeads % keyHeads === 0, {
    error: 'valueHeads is not a multiple of keyHeads'
  })

/** LFM2's: a convolution of what one gate lets in, times another gate. */
const ShortConvolution = z.strictObject({ kind: z.literal('short-convolution'), taps })

/** Mamba 2 (arXiv 2405.21060): each head has a matrix that forgets by a number, and takes in and gives out by vectors. */
const StateSpace = z
  .strictObject({
    kind: z.literal('state-space'),
    taps,
    heads: size(MAX_HEADS),
    headSize: size(MAX_HEAD_SIZE),
    /** Heads that share those vectors come in so many groups. */
    groups: size(MAX_HEADS),
    stateSize: size(MAX_HEAD_SIZE),
    /** The convolution has a bias. */
    bias: z.literal(true).exactOptional(),
    /** What comes out is normalised in each group by itself; absent: all of it together. */
    groupNorm: z.literal(true).exactOptional()
  })
  .refine(({ heads, groups }) => heads % groups === 0, { error: 'heads is not a multiple of groups' })
  .refine(({ groups, groupNorm }) => groups > 1 || groupNorm === undefined, {
    error: 'groupNorm says nothing of one group'
  })

const KINDS = 'gated-delta, short-convolution, state-space'

export const RecurrenceSchema = z.discriminatedUnion('kind', [GatedDelta, ShortConvolution, StateSpace], {
  error: ({ code }) =>
    code === 'invalid_union' ? `this kind of recurrence is not known here; known are ${KINDS}` : undefined
})

/** How a layer without attention mixes tokens: by a state of constant size that each token changes. */
export type Recurrence = z.infer<typeof RecurrenceSchema>
export type GatedDeltaSpec = z.infer<typeof GatedDelta>
export type StateSpaceSpec = z.infer<typeof StateSpace>
