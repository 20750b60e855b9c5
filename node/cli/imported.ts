import { Option } from 'commander'
import type { QuantizeMode } from '../../models/import/rounding.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import type { StoredModel } from '../../models/store/catalog.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { formatBytes } from '../units.ts'
import { InputError } from './errors.ts'
import { clean } from './format.ts'

/** Options that `import` and `pull` share. */
export interface RoundingOptions {
  quantize?: QuantizeMode
  block?: string
  mtp?: boolean
}

export function quantizeOption(): Option {
  return new Option(
    '--quantize <mode>',
    'round projections to blocks of 8 or 4 bits, or keep the own values whatever they take (default: keep them where they ' +
      'take up to 2.75 times the bytes of the file; say first what is rounded and what else there is, and ask in a terminal)'
  ).choices(['none', 'q8', 'q4'])
}

export function blockOption(): Option {
  return new Option(
    '--block <size>',
    'weights that share a scale, with --quantize: fewer are closer to the own values, more are faster (default: 128)'
  ).choices(['32', '64', '128'])
}

export function mtpOption(): Option {
  return new Option(
    '--mtp',
    'keep the first layer that guesses further tokens, where there is one, for --speculate mtp: about as large as any other layer'
  )
}

/** What importModel is told of them. */
export function rounding({ quantize, block, mtp }: RoundingOptions): {
  quantize?: QuantizeMode
  blockSize?: number
  mtp?: boolean
} {
  if (block !== undefined && (quantize === undefined || quantize === 'none')) {
    throw new InputError('--block says how --quantize rounds: name a mode with it')
  }
  return { ...(quantize && { quantize }), ...(block && { blockSize: Number(block) }), ...(mtp && { mtp }) }
}

/** The id of the model that a new one of this name will replace; null where the name is free. */
export async function replacedId(store: ModelStore, name: string): Promise<string | null> {
  const { models, broken } = await store.scan()
  const id = models.find(model => model.name === name)?.id
  return id ?? (broken.some(model => model.name === name) ? 'damaged' : null)
}

/** Says what came into the store, and which model it replaced. */
export function printImported(
  { name, id, manifest }: StoredModel,
  replaced: string | null,
  json: boolean
): void {
  const { shape, precision, layers } = manifest
  const { architecture, decoderLayers } = shape
  const bytes = weightBytes(manifest)
  const place =
    replaced === null
      ? ''
      : replaced === id
        ? ', as it was before'
        : `; it replaces the model that had this name (${replaced.slice(0, 12)})`
  process.stdout.write(
    json
      ? `${JSON.stringify({ name, id, architecture, precision, layers: layers.length, weightBytes: bytes, replaced })}\n`
      : `${name}: ${architecture}, ${precision}, ${decoderLayers} decoder layers, ${formatBytes(bytes)}${place}\n`
  )
}

/** Says what the user should know of a model that was taken. */
export function printNotice(notice: string): void {
  process.stderr.write(`edgeshard: note: ${clean(notice)}\n`)
}
