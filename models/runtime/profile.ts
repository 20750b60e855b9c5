import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ByTimedKind, ofTimedKinds } from '../blocks.ts'
import type { LayerKind } from '../layers.ts'
import { PREFILL_CHUNK_TOKENS } from './hidden.ts'
import { LayerProbe, type ProfileSpec } from './layer-probe.ts'
import { kvBytesPerToken } from './memory.ts'
import { monotone } from './monotone.ts'
import type { Processor } from './processor.ts'
import type { DetailedTimes, LayerTimes } from './runtime.ts'

const BATCHES = [1, 2, 4, 8]
/** Several sequences take another path through the kernels than one: a line from one to many would be wrong. */
const FEW_BATCHES = [2, 16]
/** Each sequence is sent to experts that others are not, fewer and fewer of them. */
const EXPERT_BATCHES = [2, 4, 8, 16]
/** Kernels differ between one row, a few and many: between points that lie far apart a step may take half or twice the line's. */
const ALL_BATCHES = [2, 4, 8, 16, 32]
/** A prompt that is shorter than a chunk takes more a token, for it reads all weights as well. */
const SHORT_PROMPT = 8
const PROMPTS = [1, 8, PREFILL_CHUNK_TOKENS, 4 * PREFILL_CHUNK_TOKENS]
/** Tokens before, in the timing of attention: about where caches of the processor hold them all, and where they do not. */
const LONG_CONTEXTS = [2048, 4096]
/** KV caches of a timing are no larger than that. */
const CONTEXT_BYTES = 64 * 1024 * 1024

/** Times one layer of each kind, one at a time, in this thread, until another one sets `unwanted`. */
export async function profileLayers(
  whole: ProfileSpec,
  processor: Processor,
  unwanted: Int32Array<SharedArrayBuffer>
): Promise<ByTimedKind<LayerTimes>> {
  return await eachKind(whole, async (kind, spec, blobsDir) => {
    const probe = await LayerProbe.load(kind, spec, blobsDir, { processor, unwanted })
    try {
      const chunk = Math.min(PREFILL_CHUNK_TOKENS, spec.shape.contextLength - 1)
      const decodeMsByBatch = await byBatch(probe, chunk, batchesOf(spec))
      const decodeMs = decodeMsByBatch[1]!
      // The head computes the last token of a prompt only, however long: a chunk's tokens share its one run.
      const { loadMs } = probe
      if (kind === 'head') return { decodeMs, decodeMsByBatch, prefillMsPerToken: decodeMs / chunk, loadMs }
      const short = Math.min(SHORT_PROMPT, chunk)
      const prefillMsByTokens = monotone({
        [short]: await probe.prefill(short),
        [chunk]: await probe.prefill(chunk)
      })
      const prefillMsPerToken = prefillMsByTokens[chunk]! / chunk
      const times = { decodeMs, decodeMsByBatch, prefillMsPerToken, prefillMsByTokens, loadMs }
      return kind === 'decoder' ? { ...times, ...(await byContext(probe, spec, times)) } : times
    } finally {
      await probe.release()
    }
  })
}

/** The same with several batch sizes, contexts and prompt lengths. */
export async function profileInDetail(
  whole: ProfileSpec,
  processor: Processor,
  unwanted: Int32Array<SharedArrayBuffer>
): Promise<ByTimedKind<DetailedTimes>> {
  return await eachKind(whole, async (kind, spec, blobsDir) => {
    const probe = await LayerProbe.load(kind, spec, blobsDir, { processor, unwanted })
    try {
      return await timeInDetail(kind, probe, spec)
    } finally {
      await probe.release()
    }
  })
}

async function timeInDetail(kind: LayerKind, probe: LayerProbe, spec: ProfileSpec): Promise<DetailedTimes> {
  const { contextLength } = spec.shape
  const short = Math.min(PREFILL_CHUNK_TOKENS, contextLength - 1)
  const decodeMsByBatch = await byBatch(probe, short, BATCHES.slice(1))
  const decodeMs = decodeMsByBatch[1]!
  const largest = BATCHES.at(-1)!
  const decodeMsPerExtraSequence = Math.max(0, (decodeMsByBatch[largest]! - decodeMs) / (largest - 1))
  if (kind === 'head') {
    // One row, however long the prompt.
    const prefillMsByTokens = { 1: decodeMs, [contextLength]: decodeMs }
    const prefillMsPerToken = decodeMs / PREFILL_CHUNK_TOKENS
    return { decodeMs, decodeMsPerExtraSequence, decodeMsByBatch, prefillMsPerToken, prefillMsByTokens }
  }
  const timed: Record<string, number> = {}
  for (const tokens of PROMPTS.filter(n => n <= contextLength)) timed[tokens] = await probe.prefill(tokens)
  const prefillMsByTokens = monotone(timed)
  const prefillMsPerToken =
    (prefillMsByTokens[PREFILL_CHUNK_TOKENS] ?? decodeMs * short) / PREFILL_CHUNK_TOKENS
  const times = { decodeMs, decodeMsPerExtraSequence, decodeMsByBatch, prefillMsPerToken, prefillMsByTokens }
  return kind === 'decoder' ? { ...times, ...(await byContext(probe, spec, times)) } : times
}

/** A step of one sequence, and of so many more. */
async function byBatch(
  probe: LayerProbe,
  context: number,
  batches: readonly number[]
): Promise<Record<string, number>> {
  const times: Record<string, number> = { 1: await probe.decode(context) }
  for (const batch of batches) times[batch] = await probe.decodeBatch(batch, context)
  // What is timed first is what is disturbed most, and counts most.
  times[1] = Math.min(times[1]!, await probe.decode(context))
  return monotone(times)
}

/** What attention costs: a step, and a token of a chunk, with more and more tokens before it. */
async function byContext(
  probe: LayerProbe,
  { shape }: ProfileSpec,
  { decodeMs, prefillMsPerToken }: { decodeMs: number; prefillMsPerToken: number }
): Promise<Pick<LayerTimes, 'decodeMsByContext' | 'prefillMsPerTokenByContext'>> {
  const chunk = Math.min(PREFILL_CHUNK_TOKENS, shape.contextLength - 1)
  const perToken = kvBytesPerToken(shape, 1)
  // What has a state takes the same however many tokens are before.
  const fitting = perToken === 0 ? 0 : Math.floor(CONTEXT_BYTES / (probe.copies * perToken))
  const most = Math.min(shape.contextLength, fitting) - chunk
  const contexts = new Set(
    LONG_CONTEXTS.map(tokens => Math.min(tokens, most)).filter(tokens => tokens > chunk)
  )
  // In the mean, half of a chunk is before each of its tokens.
  const half = Math.ceil(chunk / 2)
  const decodeMsByContext: Record<string, number> = { [chunk]: decodeMs }
  const prefillMsPerTokenByContext: Record<string, number> = { [half]: prefillMsPerToken }
  for (const context of contexts) {
    decodeMsByContext[context] = await probe.decode(context)
    prefillMsPerTokenByContext[context + half] = (await probe.chunk(chunk, context)) / chunk
  }
  return {
    decodeMsByContext: monotone(decodeMsByContext),
    prefillMsPerTokenByContext: monotone(prefillMsPerTokenByContext)
  }
}

function batchesOf({ shape, thorough }: ProfileSpec): readonly number[] {
  if (thorough) return ALL_BATCHES
  return shape.blocks[0]!.feedForward.kind === 'experts' ? EXPERT_BATCHES : FEW_BATCHES
}

async function eachKind<T>(
  spec: ProfileSpec,
  measure: (kind: LayerKind, spec: ProfileSpec, blobsDir: string) => Promise<T>
): Promise<ByTimedKind<T>> {
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-profile-'))
  try {
    return await ofTimedKinds(spec.shape, (kind, shape) => measure(kind, { ...spec, shape }, blobsDir))
  } finally {
    await rm(blobsDir, { recursive: true, force: true })
  }
}
