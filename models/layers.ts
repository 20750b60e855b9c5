/**
 * A half-open range [start, end) over all layers of a model: layer 0 is the embedding, 1..L the decoder layers and
 * L + 1 the final norm with the head, so a model of L decoder layers spans [0, L + 2).
 */
export type LayerRange = readonly [start: number, end: number]

/** Layers of a model, embedding and head included: what a manifest, a message or a scenario may have. */
export const MAX_LAYERS = 1024

export type LayerKind = 'embedding' | 'decoder' | 'head'

/** What layer `index` is in a model of `decoderLayers` decoder layers. */
export function layerKind(index: number, decoderLayers: number): LayerKind {
  if (!Number.isInteger(index) || index < 0 || index > decoderLayers + 1) {
    throw new RangeError(`layer ${index} is not in [0, ${decoderLayers + 2})`)
  }
  return index === 0 ? 'embedding' : index <= decoderLayers ? 'decoder' : 'head'
}

/** The layer numbers in a range, ascending. */
export function layersOf([start, end]: LayerRange): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i)
}
