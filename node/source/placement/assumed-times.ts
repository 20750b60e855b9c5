import { timedKind, timedKinds } from '../../../models/blocks.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import { readBytes } from '../../../models/runtime/read-bytes.ts'
import type { LayerProfile } from '../../api.ts'
import { ASSUMED_READ_BYTES_PER_MS } from '../../constants.ts'

/** Tokens of a prompt that take as long as one drawn one, of those that share a run. */
const PREFILL_GAIN = 4
const BATCHES = [1, 2, 4, 8, 16]

/**
 * Times of a model's layers on a device that has timed none, by the bytes that a step reads. Good enough for a device
 * that has nothing to be compared with.
 */
export function assumedTimes(manifest: Manifest): LayerProfile {
  const { layers, shape } = manifest
  const longest = (kind: string, tokens = 1) =>
    Math.max(
      0,
      ...[...layers.keys()]
        .filter(layer => timedKind(shape, layer) === kind)
        .map(layer => readBytes(manifest, layer, tokens))
    ) / ASSUMED_READ_BYTES_PER_MS
  const [embeddingMs, headMs] = [longest('embedding'), longest('head')]
  const decoders = timedKinds(shape).slice(1, -1)
  // A token is one row of the embedding.
  const rowMs = embeddingMs / shape.vocabSize
  return {
    embedding: { decodeMs: rowMs, prefillMsPerToken: rowMs },
    ...Object.fromEntries(
      decoders.map(({ kind, shape: { blocks } }) => {
        const decodeMs = longest(kind)
        const chunkMs = longest(kind, PREFILL_CHUNK_TOKENS)
        const prefillMsPerToken = Math.max(decodeMs / PREFILL_GAIN, chunkMs / PREFILL_CHUNK_TOKENS)
        if (blocks[0]!.feedForward.kind !== 'experts') return [kind, { decodeMs, prefillMsPerToken }]
        // Several sequences are sent to more experts than one.
        const byBatch = BATCHES.map(batch => [batch, longest(kind, batch)])
        return [kind, { decodeMs, prefillMsPerToken, decodeMsByBatch: Object.fromEntries(byBatch) }]
      })
    ),
    head: { decodeMs: headMs, prefillMsPerToken: headMs / PREFILL_CHUNK_TOKENS }
  }
}
