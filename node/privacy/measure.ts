import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { HiddenStates, Runtime, Shard } from '../../models/runtime/runtime.ts'
import { NearestRow, normalised } from './nearest.ts'
import { Projection } from './projection.ts'
import { fitRidge, type Rows } from './ridge.ts'

/** Tokens that a map is fitted to at most, and tokens of a sequence. */
const FIT_TOKENS = 4096
const SEQUENCE_TOKENS = 128
/** Every so many-th sequence is for the test. */
const TEST_SHARE = 5
/** Products of a test vector with the vocabulary's embeddings, in all: a minute of one thread. */
const COMPARED_NUMBERS = 2e10
const [MIN_TEST_TOKENS, MAX_TEST_TOKENS] = [50, 1000]
/** Embeddings are computed so many at a time. */
const TABLE_ROWS = 256
/** Numbers that a map gives for a token; wider embeddings are projected to as many. */
const TARGET_WIDTH = 256
/** Tokens that are timed one by one. */
const TIMED_TOKENS = 16

/** What the next device could tell of a prompt, where the source keeps so many layers. */
export interface PrivacyRow {
  /** Decoder layers that the source keeps behind the embedding. */
  decoderLayers: number
  /** Milliseconds that they and the embedding take here for a token. */
  computeMs: number
  /** Share of the test's tokens whose embedding is the one nearest, by cosine, to the hidden state that crosses. */
  nearest: number
  /** The same behind a map fitted to hidden states and embeddings of other text. */
  fitted: number
}

export interface PrivacyReport {
  fitTokens: number
  testTokens: number
  /** Share of the test's tokens that is the most frequent one: what guessing gets. */
  guessing: number
  rows: PrivacyRow[]
}

export interface PrivacyInit {
  manifest: Manifest
  blobsDir: string
  runtime: Runtime
  /** Token ids of texts; the first of each is not looked at, as it may be the model's own. */
  sequences: readonly (readonly number[])[]
  signal?: AbortSignal
  onProgress?: (done: number, total: number) => void
}

/** A text with too few tokens to fit to, or to try on. */
export class SampleTooSmallError extends RangeError {
  override readonly name = 'SampleTooSmallError'
  readonly code = 'sample_too_small'
}

/** Hidden states of a sequence behind the layers that were computed so far. */
interface Tracked {
  readonly tokens: Int32Array
  readonly tested: boolean
  hidden: HiddenStates | undefined
}

/**
 * How much of a prompt can be told from the hidden states that a source sends: at 0, 1, 2, 4, ... decoder layers kept, by
 * the nearest embedding and by ridge regression from hidden states to embeddings. One part of the layers is loaded at a
 * time.
 *
 * @throws {SampleTooSmallError} and what the runtime throws.
 */
export async function measurePrivacy(init: PrivacyInit): Promise<PrivacyReport> {
  const { manifest, onProgress, signal } = init
  const { decoderLayers, hiddenSize, vocabSize } = manifest.shape
  const sequences = chosenSequences(init.sequences, vocabSize * hiddenSize)
  const tokens = (tested: boolean) =>
    sequences.filter(one => one.tested === tested).flatMap(one => [...one.tokens.subarray(1)])
  const [fitIds, testIds] = [tokens(false), tokens(true)]
  if (fitIds.length < 2 * MIN_TEST_TOKENS || testIds.length < MIN_TEST_TOKENS) {
    throw new SampleTooSmallError(
      `the text leaves ${fitIds.length} tokens to fit to and ${testIds.length} to try on: give one of at least some hundred words`
    )
  }
  const cuts = cutsOf(decoderLayers)
  const projection = new Projection(hiddenSize, TARGET_WIDTH)
  let targets: Rows | undefined
  let computeMs = 0
  const found: { decoderLayers: number; computeMs: number; nearest: NearestRow; fitted: NearestRow }[] = []
  for (const [at, cut] of cuts.entries()) {
    signal?.throwIfAborted()
    const range: LayerRange = [at === 0 ? 0 : cuts[at - 1]! + 1, cut + 1]
    computeMs += await advance(init, range, sequences)
    const fit = rowsOf(sequences, false, hiddenSize)
    const test = rowsOf(sequences, true, hiddenSize)
    // Behind the embedding alone a hidden state is the embedding.
    targets ??= projection.apply(fit)
    const map = fitRidge(fit, targets)
    found.push({
      decoderLayers: cut,
      computeMs,
      nearest: new NearestRow(test),
      fitted: new NearestRow(map.apply(test))
    })
    onProgress?.(at + 1, cuts.length + 1)
  }
  await eachEmbedding(init, (table, firstId) => {
    const whole = normalised(table)
    const projected = normalised(projection.apply(table))
    for (const { nearest, fitted } of found) {
      nearest.compare(whole, firstId)
      fitted.compare(projected, firstId)
    }
  })
  onProgress?.(cuts.length + 1, cuts.length + 1)
  const share = (ids: Int32Array) => testIds.filter((id, at) => ids[at] === id).length / testIds.length
  return {
    fitTokens: fitIds.length,
    testTokens: testIds.length,
    guessing: mostFrequentShare(testIds),
    rows: found.map(({ nearest, fitted, ...row }) => ({
      ...row,
      nearest: share(nearest.ids),
      fitted: share(fitted.ids)
    }))
  }
}

/** 0, 1, 2, 4, ... and all. */
function cutsOf(decoderLayers: number): number[] {
  const cuts = [0]
  for (let cut = 1; cut < decoderLayers; cut *= 2) cuts.push(cut)
  return [...cuts, decoderLayers]
}

function chosenSequences(all: PrivacyInit['sequences'], tableNumbers: number): Tracked[] {
  const wanted = Math.round(COMPARED_NUMBERS / tableNumbers)
  let test = Math.min(MAX_TEST_TOKENS, Math.max(MIN_TEST_TOKENS, wanted))
  let fit = FIT_TOKENS
  const chosen: Tracked[] = []
  for (const [at, ids] of all.entries()) {
    const tested = at % TEST_SHARE === 0
    const left = tested ? test : fit
    const tokens = Int32Array.from(ids.slice(0, Math.min(SEQUENCE_TOKENS, left) + 1))
    if (tokens.length < 2) continue
    if (tested) test -= tokens.length - 1
    else fit -= tokens.length - 1
    chosen.push({ tokens, tested, hidden: undefined })
  }
  return chosen
}

/** Computes a range's layers for all sequences; returns the median milliseconds of a token alone. */
async function advance(
  { manifest, blobsDir, runtime, signal }: PrivacyInit,
  range: LayerRange,
  sequences: Tracked[]
): Promise<number> {
  const shard = await runtime.load({ manifest, range, blobsDir }, signal === undefined ? {} : { signal })
  try {
    const timed = await timeTokens(shard, sequences[0]!)
    for (const sequence of sequences) {
      signal?.throwIfAborted()
      const session = await shard.open({ maxTokens: sequence.tokens.length })
      const output = await session.forward({
        position: 0,
        input: sequence.hidden ?? sequence.tokens,
        sample: false
      })
      if (output.kind !== 'hidden') throw new Error('a range without the head gave no hidden states')
      sequence.hidden = output.hidden
      await session.close()
    }
    return timed
  } finally {
    await shard.release()
  }
}

async function timeTokens(shard: Shard, { tokens, hidden }: Tracked): Promise<number> {
  const count = Math.min(TIMED_TOKENS, tokens.length)
  const session = await shard.open({ maxTokens: count })
  const times: number[] = []
  for (let position = 0; position < count; position++) {
    const { computeMs } = await session.forward({
      position,
      input: hidden === undefined ? tokens.slice(position, position + 1) : rowOf(hidden, position),
      sample: false
    })
    times.push(computeMs)
  }
  await session.close()
  return times.sort((a, b) => a - b)[count >> 1]!
}

function rowOf({ data, tokens }: HiddenStates, row: number): HiddenStates {
  const width = data.length / tokens
  const one = allocateHidden(1, width)
  one.data.set(data.subarray(row * width, (row + 1) * width))
  return one
}

/** Hidden states of all tokens but the first of each sequence. */
function rowsOf(sequences: readonly Tracked[], tested: boolean, width: number): Rows {
  const parts = sequences
    .filter(one => one.tested === tested)
    .map(({ hidden }) => hidden!.data.subarray(width))
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    data.set(part, at)
    at += part.length
  }
  return { data, count: data.length / width, width }
}

/** Embeddings of the whole vocabulary, some at a time. */
async function eachEmbedding(
  { manifest, blobsDir, runtime, signal }: PrivacyInit,
  visit: (table: Rows, firstId: number) => void
): Promise<void> {
  const { vocabSize, hiddenSize } = manifest.shape
  const shard = await runtime.load({ manifest, range: [0, 1], blobsDir })
  try {
    const session = await shard.open({ maxTokens: TABLE_ROWS })
    for (let firstId = 0; firstId < vocabSize; firstId += TABLE_ROWS) {
      signal?.throwIfAborted()
      const count = Math.min(TABLE_ROWS, vocabSize - firstId)
      const ids = Int32Array.from({ length: count }, (_, row) => firstId + row)
      const output = await session.forward({ position: 0, input: ids, sample: false })
      if (output.kind !== 'hidden') throw new Error('the embedding gave no hidden states')
      visit({ data: output.hidden.data, count, width: hiddenSize }, firstId)
      await session.trim(0)
    }
  } finally {
    await shard.release()
  }
}

function mostFrequentShare(ids: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1)
  return Math.max(...counts.values()) / ids.length
}
