import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'

/** The decoder layers in a range of all layers. */
export function decoderLayers(shape: Pick<ModelShape, 'decoderLayers'>, range: LayerRange): number[] {
  return layersOf(range).filter(layer => layerKind(layer, shape.decoderLayers) === 'decoder')
}
