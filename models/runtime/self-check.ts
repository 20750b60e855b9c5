import { joinsStates } from '../guessing.ts'
import { hasState } from '../recurrence.ts'
import { Batch } from './batch.ts'
import type { GroupedRows } from './grouped-rows.ts'
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
 * some seven steps, of eleven where query heads may be rows, and meanwhile KV caches of two sequences of some 133 tokens, and of two rows
 * of a group more. False of models with a state, which a row for nobody would change: exact sequences need such rows; and of a layer that
 * joins states, of which every step has to bring its own.
 */
export async function keepsBits(shard: ShardExecutor): Promise<boolean> {
  const { shape } = shard.manifest
  if (hasState(shape) || joinsStates(shape)) return false
  const keeps = await inAnyCompany(shard)
  // Without them sequences are as exact, and slower behind long contexts.
  if (keeps && shard.grouped !== undefined && !(await asRows(shard, shard.grouped))) shard.grouped.turnOff()
  return keeps
}

/** Whether rows come out the same where query heads are computed as rows (grouped-rows.ts). */
async function asRows(shard: ShardExecutor, { largest }: GroupedRows): Promise<boolean> {
  const maxTokens = CONTEXT_TOKENS + ROWS + 2 * largest
  // Groups that find no room behind so few tokens find none behind long contexts either.
  if (maxTokens > shard.manifest.shape.contextLength) return false
  const input = inputOf(shard, ROWS)
  const compute = async (groupsFrom: number, parts: readonly Omit<CheckedPart, 'sequence'>[]) => {
    // As many slots as drawing so many rows of one sequence takes.
    const batch = await Batch.allocate(shard, { slots: 2, maxTokens, groupsFrom })
    try {
      await batch.fill(madeUp(4099))
      const sequence = await batch.open({ exact: true, sampling: SAMPLING })
      sequence.append(CONTEXT_TOKENS)
      const rows: (string | undefined)[] = []
      for (const part of parts) {
        rows.push(
          ...(await results(shard, batch, [{ sequence, ...part }], { context: CONTEXT_TOKENS, input }))
        )
      }
      return rows
    } finally {
      batch.free()
    }
  }
  const apart = await compute(Number.POSITIVE_INFINITY, [{ at: 0, tokens: ROWS }])
  const pairs = Array.from({ length: ROWS - 1 }, (_, at) => ({ at, tokens: 2 }))
  const grouped = await compute(0, [...pairs, { at: ROWS - 1, tokens: 1 }])
  const expected = [...pairs.flatMap(({ at }) => [apart[at], apart[at + 1]]), apart[ROWS - 1]]
  return grouped.every((row, i) => row === expected[i])
}

async function inAnyCompany(shard: ShardExecutor): Promise<boolean> {
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
