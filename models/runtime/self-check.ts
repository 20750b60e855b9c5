import { Batch } from './batch.ts'
import { allocateHidden } from './hidden.ts'
import type { HiddenStates, RaggedStep } from './runtime.ts'
import type { Sequence } from './sequence.ts'
import type { ShardExecutor } from './shard-executor.ts'

/** Tokens before the rows that are compared, more than kernels add up at once. Their keys and values are made up. */
const CONTEXT_TOKENS = 130
const ROWS = 3
/** Of the head what is compared is a token, and how likely that and others are. */
const SAMPLING = { temperature: 0, topP: 1, seed: 0, topLogprobs: 20 }

/** Rows of the made-up input that a sequence has in a step, from `at` on. */
interface CheckedPart {
  sequence: Sequence
  at: number
  tokens: number
}

/**
 * Whether rows behind a context come out the same to the bit in one run, one by one, before a guess that is forgotten, and
 * beside another sequence: the promise of exact sequences rests on kernels that are not ours. Takes the time of
 * some seven steps, and meanwhile KV caches of two sequences of 133 tokens.
 */
export async function keepsBits(shard: ShardExecutor): Promise<boolean> {
  const { contextLength } = shard.manifest.shape
  const rows = Math.min(ROWS, contextLength)
  const context = Math.min(CONTEXT_TOKENS, contextLength - rows)
  const batch = await Batch.allocate(shard, { slots: 2, maxTokens: context + rows })
  try {
    await batch.fill(madeUp(4099))
    const one = await batch.open({ exact: true, sampling: SAMPLING })
    const other = await batch.open({ exact: true, sampling: SAMPLING })
    for (const sequence of [one, other]) sequence.append(context)
    const input = inputOf(shard, rows)
    const compute = (...parts: CheckedPart[]) => results(shard, batch, parts, { context, input })
    const whole = await compute({ sequence: one, at: 0, tokens: rows })
    const last = rows - 1
    const beside = await compute(
      { sequence: other, at: 0, tokens: rows },
      { sequence: one, at: last, tokens: 1 }
    )
    const apart: (string | undefined)[] = []
    for (let at = 0; at < rows; at++) {
      const [first] = await compute({ sequence: one, at, tokens: Math.min(2, rows - at) })
      apart.push(first)
    }
    return beside[rows] === whole[last] && apart.every((row, at) => row === whole[at])
  } finally {
    batch.free()
  }
}

/** What came out for each row, so that strings are equal where bits are. */
async function results(
  shard: ShardExecutor,
  batch: Batch,
  parts: readonly CheckedPart[],
  { context, input }: { context: number; input: RaggedStep['input'] }
): Promise<string[]> {
  const { hiddenSize } = shard.manifest.shape
  const output = await batch.step(
    parts.map(({ sequence }) => sequence),
    {
      parts: parts.map(({ at, tokens }) => ({ position: context + at, tokens, draws: tokens })),
      input: joined(
        parts.map(({ at, tokens }) => rowsOf(input, at, tokens, hiddenSize)),
        hiddenSize
      )
    }
  )
  if (output.kind === 'drawn') return output.drawn.flat().map(token => JSON.stringify(token))
  const { data, tokens } = output.hidden
  return Array.from({ length: tokens }, (_, row) => {
    const bits = data.slice(row * hiddenSize, (row + 1) * hiddenSize)
    return Buffer.from(bits.buffer, bits.byteOffset, bits.byteLength).toString('base64')
  })
}

function rowsOf(
  input: RaggedStep['input'],
  at: number,
  tokens: number,
  hiddenSize: number
): Int32Array | Float32Array {
  return input instanceof Int32Array
    ? input.slice(at, at + tokens)
    : input.data.slice(at * hiddenSize, (at + tokens) * hiddenSize)
}

function joined(
  pieces: readonly (Int32Array | Float32Array)[],
  hiddenSize: number
): Int32Array | HiddenStates {
  const all = pieces.flatMap(piece => [...piece])
  if (pieces[0] instanceof Int32Array) return Int32Array.from(all)
  const hidden = allocateHidden(all.length / hiddenSize, hiddenSize)
  hidden.data.set(all)
  return hidden
}

/** Tokens, or hidden states of ordinary size. */
function inputOf({ manifest, range }: ShardExecutor, rows: number): RaggedStep['input'] {
  const { hiddenSize, vocabSize } = manifest.shape
  if (range[0] === 0) return Int32Array.from({ length: rows }, (_, i) => (i * 7919 + 1) % vocabSize)
  const hidden = allocateHidden(rows, hiddenSize)
  hidden.data.set(madeUp(hidden.data.length))
  return hidden
}

/** Numbers in [-1, 1) that are the same everywhere: a linear congruential generator's. */
function madeUp(count: number): Float32Array {
  let state = 12345
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}
