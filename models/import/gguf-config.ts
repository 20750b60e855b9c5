import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { GgufFile } from '../formats/gguf.ts'
import { checkShape, type ModelShape, type RopeSpec } from '../manifest.ts'
import type { Architecture } from './architectures/architecture.ts'
import { architectureOf, blocksOf } from './architectures/index.ts'
import type { CheckpointConfig } from './config.ts'
import { GgufMetadata } from './gguf-metadata.ts'

/**
 * What a GGUF file's metadata says of the model.
 *
 * @throws {UnsupportedModelError} for what cannot be computed; {CheckpointError} for what makes no sense.
 */
export async function ggufConfig(
  file: GgufFile,
  architectures?: readonly Architecture[]
): Promise<CheckpointConfig> {
  const { path } = file
  const metadata = new GgufMetadata(path, file.metadata)
  const name = metadata.optionalText('general.architecture')
  const architecture = architectureOf(path, name, architectures)
  const key = (suffix: string) => `${name}.${suffix}`
  const unsupported = (what: string) => new UnsupportedModelError(`${path}: ${what} is not supported`)
  if ((metadata.optionalNumber(key('expert_count')) ?? 0) > 0) throw unsupported('a mixture of experts')
  if ((metadata.optionalNumber('split.count') ?? 1) > 1) {
    throw unsupported('a GGUF split into several files (merge them with llama-gguf-split --merge)')
  }
  const heads = metadata.number(key('attention.head_count'))
  const hiddenSize = metadata.number(key('embedding_length'))
  const headSize = metadata.optionalNumber(key('attention.key_length')) ?? hiddenSize / heads
  const rotated = metadata.optionalNumber(key('rope.dimension_count')) ?? headSize
  const valueSize = metadata.optionalNumber(key('attention.value_length')) ?? headSize
  if (rotated !== headSize)
    throw unsupported(`rotary embedding of ${rotated} of ${headSize} values of a head`)
  if (valueSize !== headSize) throw unsupported(`values of size ${valueSize} with keys of size ${headSize}`)
  const embedding = file.tensors.get('token_embd.weight')
  if (embedding === undefined) throw new CheckpointError(path, 'tensor token_embd.weight is missing')
  const theta = metadata.optionalNumber(key('rope.freq_base')) ?? architecture.defaults.ropeTheta
  const decoderLayers = metadata.number(key('block_count'))
  const shape: ModelShape = {
    architecture: architecture.name,
    decoderLayers,
    hiddenSize,
    ffnSize: metadata.number(key('feed_forward_length')),
    heads,
    kvHeads: metadata.optionalNumber(key('attention.head_count_kv')) ?? heads,
    headSize,
    vocabSize: embedding.dims[0]!,
    contextLength: Math.min(
      metadata.number(key('context_length')),
      metadata.optionalNumber(key('attention.sliding_window')) || Infinity
    ),
    normKind: architecture.normKind,
    ...blocksOf(architecture, decoderLayers),
    normEpsilon: metadata.number(key('attention.layer_norm_rms_epsilon')),
    rope: { theta, ...(await ropeScaling(file, metadata, key, headSize, theta)) }
  }
  try {
    checkShape(shape)
  } catch (error) {
    throw new CheckpointError(path, (error as Error).message, { cause: error })
  }
  return {
    architecture,
    shape,
    tied: !file.tensors.has('output.weight'),
    bosTokenId: undefined,
    eosTokenIds: undefined
  }
}

type Scaling = Pick<RopeSpec, 'scaling'>

async function ropeScaling(
  file: GgufFile,
  metadata: GgufMetadata,
  key: (suffix: string) => string,
  headSize: number,
  theta: number
): Promise<Scaling> {
  const type = metadata.optionalText(key('rope.scaling.type')) ?? 'none'
  const frequencies = file.tensors.get('rope_freqs.weight')
  if (frequencies !== undefined) {
    if (frequencies.dims.length !== 1 || frequencies.dims[0] !== headSize / 2) {
      throw new CheckpointError(file.path, `rope_freqs.weight has shape (${frequencies.dims.join(', ')})`)
    }
    const bytes = new Uint8Array(frequencies.bytes)
    await file.read(frequencies, 0, bytes)
    return scalingOfFactors(file.path, frequencies.type.floats(bytes, headSize / 2), theta)
  }
  if (type === 'linear') return { scaling: { type, factor: metadata.number(key('rope.scaling.factor')) } }
  if (type === 'none') return {}
  throw new UnsupportedModelError(`${file.path}: rope scaling ${JSON.stringify(type)} is not supported`)
}

/**
 * GGUF keeps Llama 3's scaling as the divisors of the frequencies that it leads to. Its parameters are found again by
 * trying: the converter writes Llama 3.1's own low and high factors of 1 and 4.
 */
export function scalingOfFactors(file: string, divisors: Float32Array, theta: number): Scaling {
  const factor = Math.max(...divisors)
  if (divisors.every(divisor => divisor === 1)) return {}
  if (divisors.every(divisor => divisor === factor)) return { scaling: { type: 'linear', factor } }
  for (let originalContextLength = 16; originalContextLength <= 2 ** 20; originalContextLength *= 2) {
    const scaling = {
      type: 'llama3',
      factor,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength
    } as const
    const expected = llama3Divisors(scaling, divisors.length, theta)
    if (expected.every((value, i) => Math.abs(value - divisors[i]!) <= 1e-4 * value)) return { scaling }
  }
  throw new UnsupportedModelError(
    `${file}: the frequencies of rope_freqs.weight are not those of Llama 3's scaling`
  )
}

/** transformers, modeling_rope_utils.py, _compute_llama3_parameters. */
function llama3Divisors(
  scaling: { factor: number; lowFreqFactor: number; highFreqFactor: number; originalContextLength: number },
  count: number,
  theta: number
): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalContextLength: context } = scaling
  return Array.from({ length: count }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (i / count)
    if (wavelength < context / high) return 1
    if (wavelength > context / low) return factor
    const smooth = (context / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
  })
}
