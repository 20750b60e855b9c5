import { join } from 'node:path'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { readJsonObject, readSmallFile } from '../formats/files.ts'
import type { Pooling } from '../runtime/pooling.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** What a checkpoint says of how its hidden states become an embedding. */

const MAX_BYTES = 1 << 20
/** The folder of a module beside the model's own files. */
const FOLDER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
/** Modules of sentence-transformers by the end of their type; vectors are brought to length 1 here in any case. */
const KNOWN_MODULES = /\.(Transformer|Pooling|Normalize)$/
/** 1_Pooling/config.json of sentence-transformers: what it may be told by, each as a flag or as `pooling_mode`. */
const MODES: ReadonlyMap<string, Pooling> = new Map([
  ['pooling_mode_mean_tokens', 'mean'],
  ['mean', 'mean'],
  ['pooling_mode_lasttoken', 'last'],
  ['lasttoken', 'last']
])
/** llama.cpp's enum llama_pooling_type; 0 is none. */
const TYPES: ReadonlyMap<number, Pooling> = new Map([
  [1, 'mean'],
  [3, 'last']
])

interface Module {
  path: string
  type: string
}

/**
 * By `modules.json` of a folder and the configuration that it names; undefined where the folder has none.
 *
 * @throws {UnsupportedModelError} for a way that is not known here, {CheckpointError} for what makes no sense
 */
export async function poolingOf(dir: string): Promise<Pooling | undefined> {
  const path = join(dir, 'modules.json')
  const bytes = await readSmallFile(path, MAX_BYTES)
  if (bytes === undefined) return undefined
  const modules = modulesIn(path, bytes)
  const strange = modules.find(({ type }) => !KNOWN_MODULES.test(type))
  if (strange !== undefined) {
    throw new UnsupportedModelError(`${path}: a module ${JSON.stringify(strange.type)} is not supported`)
  }
  const pooling = modules.find(({ type }) => type.endsWith('.Pooling'))
  if (pooling === undefined) return undefined
  if (!FOLDER.test(pooling.path)) throw new CheckpointError(path, 'names a folder that is none beside it')
  const card = join(dir, pooling.path, 'config.json')
  const config = await readJsonObject(card, MAX_BYTES)
  if (config === undefined) throw new CheckpointError(card, `is missing, and ${path} names it`)
  return modeIn(card, config)
}

/** By `pooling_type`. @throws {UnsupportedModelError} for a way that is not known here */
export function ggufPooling(metadata: GgufMetadata): Pooling | undefined {
  const key = keyOf(metadata, 'pooling_type')
  const type = metadata.optionalNumber(key)
  if (type === undefined || type === 0) return undefined
  const pooling = TYPES.get(type)
  if (pooling !== undefined) return pooling
  const what = type === 4 ? 'ranks texts' : 'pools otherwise than by the mean or the last token'
  throw new UnsupportedModelError(
    `${metadata.file}: ${key} is ${type}: a model that ${what} is not supported`
  )
}

function modulesIn(path: string, bytes: Uint8Array): Module[] {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder().decode(bytes))
  } catch (error) {
    throw new CheckpointError(path, 'is not JSON', { cause: error })
  }
  if (Array.isArray(json) && json.every(isModule)) return json
  throw new CheckpointError(path, 'is not a list of modules')
}

function isModule(value: unknown): value is Module {
  if (typeof value !== 'object' || value === null) return false
  const { path, type } = value as Partial<Record<keyof Module, unknown>>
  return typeof path === 'string' && typeof type === 'string'
}

function modeIn(card: string, config: Record<string, unknown>): Pooling {
  const on = Object.keys(config).filter(key => key.startsWith('pooling_mode_') && config[key] === true)
  const { pooling_mode: mode } = config
  const named = typeof mode === 'string' ? [mode] : on
  const [only] = named
  const pooling = only === undefined ? undefined : MODES.get(only)
  const leavesOut = config.include_prompt === false && pooling === 'mean'
  if (named.length === 1 && pooling !== undefined && !leavesOut) return pooling
  const what = leavesOut ? 'the mean without the prompt' : named.join(' and ') || 'no way of pooling'
  throw new UnsupportedModelError(`${card}: ${what} is not supported: the mean or the last token is`)
}
