import { InferenceError, NotFiniteError } from './errors.ts'
import { allocateHidden, PREFILL_CHUNK_TOKENS } from './hidden.ts'
import type { HiddenStates, Shard, ShardBatch } from './runtime.ts'

/** Tokens of a step that kernels for long ones are not taken for, and more than one. */
const SMALL_STEP_TOKENS = 4
/**
 * By how much of its length a row may differ. What products are rounded to differs from one number of rows to another, and a
 * difference grows from layer to layer.
 */
const MOST_DIFFERENCE = 0.01
const POOLINGS = ['mean', 'last'] as const

/** Tokens of a sequence that `checkRuns` computes. */
export function checkedTokens({ manifest }: Pick<Shard, 'manifest'>): number {
  return Math.min(PREFILL_CHUNK_TOKENS, manifest.shape.contextLength)
}

/**
 * Computes the same tokens in one step, as prompts come, and in small ones: what both come to has to agree. Where the range
 * ends with the head that is what the states after its norm are pooled to.
 *
 * @param batch with room for `checkedTokens` tokens in a slot that is free
 * @throws {InferenceError} where they do not, as where kernels for many tokens are wrong
 */
export async function checkRuns(shard: Shard, batch: ShardBatch): Promise<void> {
  const tokens = checkedTokens(shard)
  const isHead = shard.range[1] === shard.manifest.layers.length
  for (const pooling of isHead ? POOLINGS : [undefined]) {
    const whole = await rowsOf(shard, batch, { tokens, size: tokens, pooling })
    const apart = await rowsOf(shard, batch, { tokens, size: SMALL_STEP_TOKENS, pooling })
    const difference = Math.max(...whole.map((row, i) => differenceOf(row, apart[i]!)))
    if (difference <= MOST_DIFFERENCE) continue
    const percent = Number.isFinite(difference) ? `by ${(100 * difference).toFixed(1)} %` : 'in no number'
    throw new InferenceError(
      `${tokens} tokens in one step and in steps of ${SMALL_STEP_TOKENS} differ ${percent}: layers are not computed rightly here`
    )
  }
}

interface CheckedRun {
  tokens: number
  /** Tokens of a step. */
  size: number
  pooling: (typeof POOLINGS)[number] | undefined
}

/** What comes of the tokens: a row each, or the one that they are pooled to. */
async function rowsOf(
  { manifest, range }: Shard,
  batch: ShardBatch,
  { tokens, size, pooling }: CheckedRun
): Promise<Float32Array[]> {
  const { hiddenSize, vocabSize } = manifest.shape
  const session = await batch.open(pooling === undefined ? {} : { pooling })
  const rows: Float32Array[] = []
  try {
    for (let start = 0; start < tokens; start += size) {
      const end = Math.min(tokens, start + size)
      const input = range[0] === 0 ? idsOf(start, end, vocabSize) : statesOf(start, end, hiddenSize)
      const output = await session.forward({ position: start, input, sample: end === tokens })
      if (output.kind === 'pooled') rows.push(output.pooled)
      if (output.kind !== 'hidden') continue
      // What a single token comes to is overwritten.
      const data = output.hidden.data.slice()
      for (let row = 0; row < end - start; row++) {
        rows.push(Float32Array.from(data.subarray(row * hiddenSize, (row + 1) * hiddenSize)))
      }
    }
  } catch (error) {
    if (!(error instanceof NotFiniteError)) throw error
    rows.push(Float32Array.of(Number.NaN))
  } finally {
    await session.close()
  }
  return rows
}

/** The length of the difference by that of the first. Infinite, or no number, where one of them is. */
function differenceOf(one: Float32Array, other: Float32Array): number {
  let squares = 0
  let differences = 0
  for (let i = 0; i < one.length; i++) {
    squares += one[i]! ** 2
    differences += (one[i]! - other[i]!) ** 2
  }
  return differences === 0 ? 0 : Math.sqrt(differences / squares)
}

function idsOf(start: number, end: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length: end - start }, (_, i) => ((start + i) * 7919 + 1) % vocabSize)
}

/** Hidden states of ordinary size. */
function statesOf(start: number, end: number, hiddenSize: number): HiddenStates {
  const states = allocateHidden(end - start, hiddenSize)
  states.data.forEach((_, i) => {
    states.data[i] = Math.sin(start * hiddenSize + i)
  })
  return states
}
