import type { LayerRange } from '../../models/layers.ts'
import { kvBytes, stateBytes, weightBytes } from '../../models/runtime/memory.ts'
import { readBytesPerToken } from '../../models/runtime/read-bytes.ts'
import type { CachedModel } from '../../models/store/cached-models.ts'
import type { StoredModel } from '../../models/store/catalog.ts'
import { tableText } from '../table.ts'
import { formatBytes } from '../units.ts'
import { clean } from './format.ts'

/** A node with a loaded shard takes this much memory for each byte of its weights (measured: 1.19 to 1.23). */
const MEMORY_PER_WEIGHT_BYTE = 1.2

/** A model of the store as `edgeshard models --json` prints it. */
export interface ModelRow {
  name: string
  id: string
  architecture: string
  precision: string
  /** All layers: embedding, decoder layers, head. */
  layers: number
  decoderLayers: number
  contextLength: number
  weightBytes: number
  /** What of them a token reads: less than all where it is sent to a few of many experts. */
  readBytesPerToken: number
  /** Weights of the embedding, of one decoder layer (the largest), of the head. */
  layerBytes: { embedding: number; decoder: number; head: number }
  /** Memory that a node needs for the whole model, without KV cache. */
  expectedMemoryBytes: number
  kvBytesPerToken: number
  /** What a sequence takes besides, however long it is: states of layers that do not attend. */
  stateBytes: number
  held: LayerRange[]
}

export function modelRow({ name, id, manifest }: StoredModel, held: LayerRange[]): ModelRow {
  const { shape, layers, precision } = manifest
  const bytes = weightBytes(manifest)
  return {
    name,
    id,
    architecture: shape.architecture,
    precision,
    layers: layers.length,
    decoderLayers: shape.decoderLayers,
    contextLength: shape.contextLength,
    weightBytes: bytes,
    readBytesPerToken: readBytesPerToken(manifest),
    layerBytes: {
      embedding: layers[0]!.bytes,
      decoder: Math.max(...layers.slice(1, -1).map(layer => layer.bytes)),
      head: layers.at(-1)!.bytes
    },
    expectedMemoryBytes: Math.round(bytes * MEMORY_PER_WEIGHT_BYTE),
    kvBytesPerToken: kvBytes(shape, [0, layers.length], 1),
    stateBytes: stateBytes(shape, [0, layers.length]),
    held
  }
}

export function modelsTable(rows: ModelRow[]): string {
  const head = [
    'name',
    'architecture',
    'precision',
    'layers',
    'weights',
    'a token reads',
    'a layer',
    'memory',
    'held'
  ]
  const cells = rows.map(row => [
    clean(row.name),
    row.architecture,
    row.precision,
    String(row.layers),
    formatBytes(row.weightBytes),
    formatBytes(row.readBytesPerToken),
    formatBytes(row.layerBytes.decoder),
    formatBytes(row.expectedMemoryBytes),
    heldText(row)
  ])
  return tableText(head, cells, process.stdout.columns)
}

/** A model of the cache as `edgeshard models --json` prints it. */
export interface CachedRow {
  id: string
  /** What its first source called it. */
  called: string
  /** All layers of the model, and those that are here, with their bytes. */
  layers: number
  held: LayerRange[]
  heldBytes: number
  /** Peer ids of the sources that use it. */
  sources: string[]
  /** When one did last, as ISO 8601; null where that is not known. */
  usedAt: string | null
}

export function cachedRow({ id, called, claims, manifest }: CachedModel, held: LayerRange[]): CachedRow {
  const usedAtMs = Math.max(0, ...Object.values(claims))
  return {
    id,
    called,
    layers: manifest.layers.length,
    held,
    heldBytes: held.reduce((sum, range) => sum + weightBytes(manifest, range), 0),
    sources: Object.keys(claims),
    usedAt: usedAtMs === 0 ? null : new Date(usedAtMs).toISOString()
  }
}

/** `cached 2f1c90aa41be: 812.0 MiB of layers [3, 6), of a model called "mine" by others`. */
export function cachedLine(row: CachedRow): string {
  const called = `a model called ${JSON.stringify(clean(row.called))} by others`
  const layers =
    row.held.length === 0 ? 'no layers' : `${formatBytes(row.heldBytes)}, layers ${heldText(row)}`
  return `cached ${row.id.slice(0, 12)}: ${layers} of ${called}`
}

function heldText({ held, layers }: Pick<ModelRow, 'held' | 'layers'>): string {
  if (held.length === 1 && held[0]![0] === 0 && held[0]![1] === layers) return 'all'
  return held.length === 0 ? 'none' : held.map(([start, end]) => `[${start}, ${end})`).join(' ')
}
