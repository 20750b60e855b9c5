import { blockOf } from '../../../models/blocks.ts'
import type { ModelShape } from '../../../models/manifest.ts'
import { firstKept, reachesBack } from '../../../models/runtime/window-cache.ts'
import { MAX_GUESSES } from './window-size.ts'

/** Whether a KV cache of so many tokens can be cut to fewer ones, and gone on from there, on every stage. */
export type MayCut = (cachedTokens: number, keepTokens: number) => boolean

export const ANYWHERE: MayCut = () => true

/**
 * Layers with a window drop tokens that no further one sees: a cache of such a model can be cut a little, for its end is
 * what changes when a conversation goes on, or where nothing was dropped yet. Else the prompt is computed again. Stages may
 * have been by guesses ahead of what counted in the end.
 */
export function cutsOf(shape: Pick<ModelShape, 'blocks' | 'layout' | 'decoderLayers'>): MayCut {
  const windows = new Set(
    Array.from({ length: shape.decoderLayers }, (_, i) => blockOf(shape, i + 1).attention.window)
  )
  windows.delete(undefined)
  return (cachedTokens, keepTokens) =>
    [...windows].every(window =>
      reachesBack(window!, firstKept(window!, cachedTokens + MAX_GUESSES, false), keepTokens)
    )
}
