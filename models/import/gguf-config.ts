import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { GgufFile } from '../formats/gguf.ts'
import { checkShape, type ModelShape, type RopeSpec } from '../manifest.ts'
import type { Architecture } from './architectures/architecture.ts'
import { architectureOf, blocksOf } from './architectures/index.ts'
import type { CheckpointConfig } from './config.ts'
import { GgufMetadata } from './gguf-metadata.ts'

const words = (text: string) => new Set(text.trim().split(/\s+/))

/** What is read of `general.architecture`'s own keys, here or by ropeScaling. */
const READ = words(`
  attention.causal attention.head_count attention.head_count_kv attention.key_length attention.layer_norm_rms_epsilon
  attention.sliding_window attention.value_length block_count context_length embedding_length expert_count
  feed_forward_length rope.dimension_count rope.freq_base rope.scale_linear rope.scaling.attn_factor
  rope.scaling.factor rope.scaling.type
`)

/** What llama.cpp does not compute these architectures by either, though others. */
const NOT_READ_BY_LLAMA_CPP = words(`
  attention.layer_norm_epsilon attention.scale embedding_scale expert_used_count logit_scale pooling_type
  residual_scale rope.scaling.finetuned rope.scaling.original_context_length rope.scaling.yarn_attn_factor
  rope.scaling.yarn_beta_fast rope.scaling.yarn_beta_slow rope.scaling.yarn_ext_factor
  rope.scaling.yarn_log_multiplier tensor_data_layout vocab_size
`)

/**
 * What a GGUF file's metadata says of the model.
 *
 * @throws {UnsupportedModelError} for what cannot be computed; {CheckpointError} for what makes no sense.
 */
export async function ggufConfig(
  file: GgufFile,
  architectures?: readonly Architecture[]
): Promise<CheckpointConfig> {
  const { path, tensors } = file
  const metadata = new GgufMetadata(path, file.metadata)
  const architecture = ggufArchitecture(metadata, architectures)
  const shape = ggufShape(metadata, architecture, tensors)
  const checked = () => {
    try {
      checkShape(shape)
    } catch (error) {
      throw new CheckpointError(path, (error as Error).message, { cause: error })
    }
  }
  // Before memory is allocated by its sizes, and again with what they say of positions.
  checked()
  const divisors = await ropeDivisors(file, shape.headSize)
  shape.rope = { theta: shape.rope.theta, ...ropeScaling(metadata, shape.rope.theta, divisors) }
  checked()
  return {
    architecture,
    shape,
    tied: !tensors.has('output.weight'),
    bosTokenId: undefined,
    eosTokenIds: undefined
  }
}

function ggufArchitecture(metadata: GgufMetadata, architectures?: readonly Architecture[]): Architecture {
  const { file } = metadata
  const name = metadata.optionalText('general.architecture')
  const architecture = architectureOf(file, name, architectures)
  const unsupported = (what: string) => new UnsupportedModelError(`${file}: ${what} is not supported`)
  if ((metadata.optionalNumber(`${name}.expert_count`) ?? 0) > 0) throw unsupported('a mixture of experts')
  if (metadata.optionalFlag(`${name}.attention.causal`) === false) {
    throw unsupported('attention that is not causal (a model for embeddings)')
  }
  // Keys of other names are not read for this architecture by any program.
  const prefix = `${name}.`
  for (const key of metadata.keys()) {
    const own = key.startsWith(prefix) ? key.slice(prefix.length) : undefined
    if (own === undefined || READ.has(own) || NOT_READ_BY_LLAMA_CPP.has(own)) continue
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 80))} is not known and may change what the model computes`
    )
  }
  return architecture
}

function ggufShape(
  metadata: GgufMetadata,
  architecture: Architecture,
  tensors: GgufFile['tensors']
): ModelShape {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const unsupported = (what: string) => new UnsupportedModelError(`${file}: ${what} is not supported`)
  const heads = metadata.same(key('attention.head_count'))
  const hiddenSize = metadata.number(key('embedding_length'))
  const headSize = metadata.optionalNumber(key('attention.key_length')) ?? hiddenSize / heads
  const rotated = metadata.optionalNumber(key('rope.dimension_count')) ?? headSize
  const valueSize = metadata.optionalNumber(key('attention.value_length')) ?? headSize
  if (rotated !== headSize)
    throw unsupported(`rotary embedding of ${rotated} of ${headSize} values of a head`)
  if (valueSize !== headSize) throw unsupported(`values of size ${valueSize} with keys of size ${headSize}`)
  const embedding = tensors.get('token_embd.weight')
  if (embedding === undefined) throw new CheckpointError(file, 'tensor token_embd.weight is missing')
  const decoderLayers = metadata.number(key('block_count'))
  return {
    architecture: architecture.name,
    decoderLayers,
    hiddenSize,
    ffnSize: metadata.same(key('feed_forward_length')),
    heads,
    kvHeads: metadata.optionalSame(key('attention.head_count_kv')) ?? heads,
    headSize,
    vocabSize: embedding.dims[0]!,
    contextLength: Math.min(
      metadata.number(key('context_length')),
      metadata.optionalNumber(key('attention.sliding_window')) || Infinity
    ),
    normKind: architecture.normKind,
    ...blocksOf(architecture, decoderLayers),
    normEpsilon: metadata.number(key('attention.layer_norm_rms_epsilon')),
    rope: { theta: metadata.optionalNumber(key('rope.freq_base')) ?? architecture.defaults.ropeTheta }
  }
}

type Scaling = Pick<RopeSpec, 'scaling'>

function keyOf(metadata: GgufMetadata, suffix: string): string {
  return `${metadata.optionalText('general.architecture')}.${suffix}`
}

/** What rope_freqs.weight divides the frequencies by; Llama 3's files have it. */
async function ropeDivisors(file: GgufFile, headSize: number): Promise<Float32Array | undefined> {
  const frequencies = file.tensors.get('rope_freqs.weight')
  if (frequencies === undefined) return undefined
  if (frequencies.dims.length !== 1 || frequencies.dims[0] !== headSize / 2) {
    throw new CheckpointError(file.path, `rope_freqs.weight has shape (${frequencies.dims.join(', ')})`)
  }
  const bytes = new Uint8Array(frequencies.bytes)
  await file.read(frequencies, 0, bytes)
  return frequencies.type.floats(bytes, headSize / 2)
}

/**
 * How positions are scaled, by the rules of llama.cpp (llama-model.cpp): a type that is left out is linear, the factor's
 * older key is read where the newer one is missing, 0 stands for none, and what rope_freqs.weight says comes on top.
 */
function ropeScaling(metadata: GgufMetadata, theta: number, divisors: Float32Array | undefined): Scaling {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const type = metadata.optionalText(key('rope.scaling.type')) ?? 'linear'
  if (type !== 'linear' && type !== 'none') {
    throw new UnsupportedModelError(
      `${file}: rope scaling ${JSON.stringify(type.slice(0, 40))} is not supported`
    )
  }
  const attention = metadata.optionalNumber(key('rope.scaling.attn_factor')) ?? 1
  if (attention !== 1) {
    throw new UnsupportedModelError(
      `${file}: ${key('rope.scaling.attn_factor')} ${attention} is not supported`
    )
  }
  const given =
    metadata.optionalNumber(key('rope.scaling.factor')) ?? metadata.optionalNumber(key('rope.scale_linear'))
  const factor = type === 'none' || !given ? 1 : given
  if (factor < 0) throw new CheckpointError(file, `${key('rope.scaling.factor')} is ${factor}`)
  const { scaling } = divisors === undefined ? ({} as Scaling) : scalingOfFactors(file, divisors, theta)
  if (factor === 1) return scaling === undefined ? {} : { scaling }
  if (scaling?.type === 'llama3') {
    throw new UnsupportedModelError(
      `${file}: ${key('rope.scaling.factor')} ${factor} together with rope_freqs.weight is not supported`
    )
  }
  return { scaling: { type: 'linear', factor: factor * (scaling?.factor ?? 1) } }
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
