import { blockOf } from '../blocks.ts'
import { layerKind } from '../layers.ts'
import type { Manifest } from '../manifest.ts'

/**
 * Bytes of a layer's weights that a step of `tokens` tokens reads, in the mean: all of them, but of experts those that some
 * token is sent to, E (1 - (1 - k / E)^tokens) of E of which each token has k, as if all were sought alike.
 */
export function readBytes({ shape, layers }: Manifest, layer: number, tokens = 1): number {
  const { bytes, tensors } = layers[layer]!
  if (layerKind(layer, shape.decoderLayers) !== 'decoder') return bytes
  const { feedForward } = blockOf(shape, layer)
  if (feedForward.kind !== 'experts') return bytes
  const { experts, used } = feedForward
  const ofExperts = tensors
    .filter(({ name }) => name.startsWith('expert_'))
    .reduce((sum, tensor) => sum + tensor.bytes, 0)
  return bytes - ofExperts * (1 - used / experts) ** tokens
}

/** Bytes of weights that a drawn token of one sequence reads: of the embedding a row. */
export function readBytesPerToken(manifest: Manifest): number {
  const { layers, shape } = manifest
  const row = Math.ceil(layers[0]!.bytes / shape.vocabSize)
  return layers.reduce(
    (sum, _, layer) => sum + (layer === 0 ? row : Math.ceil(readBytes(manifest, layer))),
    0
  )
}
