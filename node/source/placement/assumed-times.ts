import { timedKind, timedKinds } from '../../../models/blocks.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import type { LayerProfile } from '../../api.ts'
import { ASSUMED_READ_BYTES_PER_MS } from '../../constants.ts'

/** Tokens of a prompt that take as long as one drawn one, of those that share a run. */
const PREFILL_GAIN = 4

/**
 * Times of a model's layers on a device that has timed none, by the bytes that a step reads. Good enough for a device
 * that has nothing to be compared with.
 */
export function assumedTimes({ layers, shape }: Manifest): LayerProfile {
  const longest = (kind: string) =>
    Math.max(0, ...layers.filter((_, index) => timedKind(shape, index) === kind).map(({ bytes }) => bytes)) /
    ASSUMED_READ_BYTES_PER_MS
  const [embeddingMs, headMs] = [longest('embedding'), longest('head')]
  const decoders = timedKinds(shape).slice(1, -1)
  // A token is one row of the embedding.
  const rowMs = embeddingMs / shape.vocabSize
  return {
    embedding: { decodeMs: rowMs, prefillMsPerToken: rowMs },
    ...Object.fromEntries(
      decoders.map(({ kind }) => {
        const decodeMs = longest(kind)
        return [kind, { decodeMs, prefillMsPerToken: decodeMs / PREFILL_GAIN }]
      })
    ),
    head: { decodeMs: headMs, prefillMsPerToken: headMs / PREFILL_CHUNK_TOKENS }
  }
}
