import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { Architecture, WindowRule } from './architectures/architecture.ts'
import { isNotEvery } from './layer-choices.ts'

/** What config.json says of windows, and of layers without positions. */
export interface LayerKeys {
  num_hidden_layers: number
  sliding_window?: number | null | undefined
  use_sliding_window?: boolean | null | undefined
  max_window_layers?: number | null | undefined
  sliding_window_pattern?: number | string | null | undefined
  layer_types?: string[] | null | undefined
  no_rope_layers?: number[] | null | undefined
  no_rope_layer_interval?: number | null | undefined
}

/** Which decoder layers, from 0, have a window of how many tokens, and which have positions. */
export interface LayerRules {
  window: number | undefined
  isWindowed: (layer: number) => boolean
  isTurned: (layer: number) => boolean
}

const NONE = { window: undefined, isWindowed: () => false }

/**
 * A layer has a window where `layer_types` says so, else by the pattern, else from `max_window_layers` on.
 *
 * @throws {UnsupportedModelError} or {CheckpointError} for layers of other types, and lists that fit no model.
 */
export function layerRules(file: string, keys: LayerKeys, architecture: Architecture): LayerRules {
  const windows = windowsOf(file, keys, architecture)
  const { window, unturnedEvery } = architecture
  if (window?.fullUnturned) {
    return { ...windows, isTurned: layer => windows.window === undefined || windows.isWindowed(layer) }
  }
  if (unturnedEvery === undefined) return { ...windows, isTurned: () => true }
  const list = listOf(file, 'no_rope_layers', keys.no_rope_layers, keys.num_hidden_layers)
  const every = keys.no_rope_layer_interval ?? unturnedEvery
  // Despite its name, the list has a 1 for each layer with positions.
  return { ...windows, isTurned: layer => (list ? list[layer] !== 0 : isNotEvery(layer, every)) }
}

function windowsOf(
  file: string,
  keys: LayerKeys,
  { name, window, recurrence }: Architecture
): Omit<LayerRules, 'isTurned'> {
  const known = [
    recurrence?.attentionType ?? 'full_attention',
    ...(recurrence === undefined ? [] : [recurrence.layerType]),
    ...(window === undefined ? [] : ['sliding_attention'])
  ]
  const strange = keys.layer_types?.find(type => !known.includes(type))
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${file}: layer_types has ${JSON.stringify(strange.slice(0, 40))}, which is not supported for ${name}`
    )
  }
  const types = listOf(file, 'layer_types', keys.layer_types, keys.num_hidden_layers)
  if (window === undefined) return NONE
  const used = window.optional ? keys.use_sliding_window === true : true
  // Left out, it is the class's default; null means none.
  const tokens = used ? (keys.sliding_window === undefined ? window.tokens : keys.sliding_window) : null
  if (types?.includes('sliding_attention') && tokens === null) {
    throw new CheckpointError(file, 'layer_types has windows, but there is no sliding_window')
  }
  if (tokens === null) return NONE
  if (!Number.isInteger(tokens) || tokens < 1 || tokens >= 2 ** 30) {
    throw new CheckpointError(file, `sliding_window is ${tokens}, not a number of tokens`)
  }
  const isFull = (layer: number) => window.lastFull === true && layer === keys.num_hidden_layers - 1
  if (types !== undefined) {
    return { window: tokens, isWindowed: layer => types[layer] === 'sliding_attention' && !isFull(layer) }
  }
  const first = window.firstLayer === undefined ? 0 : (keys.max_window_layers ?? window.firstLayer)
  const every = patternOf(file, keys, window)
  return { window: tokens, isWindowed: layer => layer >= first && isNotEvery(layer, every) && !isFull(layer) }
}

function patternOf(
  file: string,
  { sliding_window_pattern: given }: LayerKeys,
  { fullEvery }: WindowRule
): number | undefined {
  if (given === undefined || given === null || fullEvery === undefined) return fullEvery
  // EXAONE spells it: L for a layer with a window, G for one without.
  if (typeof given === 'string' && /^L{1,63}G$/.test(given)) return given.length
  if (typeof given === 'number' && Number.isInteger(given) && given >= 1) return given
  throw new CheckpointError(file, `sliding_window_pattern is ${JSON.stringify(given).slice(0, 60)}`)
}

function listOf<T>(file: string, key: string, list: T[] | null | undefined, layers: number): T[] | undefined {
  if (list === undefined || list === null) return undefined
  if (list.length === layers) return list
  throw new CheckpointError(file, `${key} has ${list.length} entries, but there are ${layers} layers`)
}
