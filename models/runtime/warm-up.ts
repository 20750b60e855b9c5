import { logger } from '../log.ts'
import { RuntimeInputError } from './errors.ts'
import { allocateHidden } from './hidden.ts'
import { checkedTokens, checkRuns } from './run-check.ts'
import type { HiddenStates, Shard, ShardBatch } from './runtime.ts'

const log = logger('edgeshard:runtime')

/** Rows of a prompt, after which one more follows: kernels for many rows are others than those for one. */
const PROMPT_TOKENS = 8
const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }

/**
 * Computes a short prompt and a token for nobody. A GPU's kernels are compiled when they first run, for a second or for
 * half a minute: in the load, which may take its time, and not in the first answer, whose steps have deadlines.
 *
 * @throws {InferenceError} where kernels for many tokens come to something else than those for few
 */
export async function warmUp(shard: Shard): Promise<void> {
  const { shape } = shard.manifest
  const tokens = Math.min(PROMPT_TOKENS, shape.contextLength - 1)
  if (tokens < 1) return
  const batch = await shard.openBatch({ slots: 1, maxTokens: Math.max(tokens + 1, checkedTokens(shard)) })
  try {
    await checkRuns(shard, batch)
    await runIn(batch, shard, tokens).catch(error => {
      // A kind of model that draws no tokens, say: its first answer takes the time.
      if (!(error instanceof RuntimeInputError)) throw error
      log.passOver('a shard was not warmed up')(error)
    })
  } finally {
    await batch.close()
  }
}

async function runIn(batch: ShardBatch, { manifest, range }: Shard, tokens: number): Promise<void> {
  const isHead = range[1] === manifest.layers.length
  const session = await batch.open(isHead ? { sampling: GREEDY } : {})
  const inputOf = (rows: number): Int32Array | HiddenStates =>
    range[0] === 0 ? new Int32Array(rows) : allocateHidden(rows, manifest.shape.hiddenSize)
  await session.forward({ position: 0, input: inputOf(tokens), sample: true })
  await session.forward({ position: tokens, input: inputOf(1), sample: true })
  await session.close()
}
