import { z } from 'zod'
import { UnsupportedModelError } from '../../errors.ts'

/** How the weights of a Hugging Face folder are quantised, as its config.json says. */
export type QuantizationScheme =
  | { method: 'fp8'; blockSize: [rows: number, columns: number] | undefined }
  | { method: 'awq'; groupSize: number }
  | { method: 'gptq'; bits: 4 | 8; groupSize: number; symmetric: boolean; zeroOffset: 0 | 1 }
  | { method: 'compressed-tensors'; kind: 'packed' | 'integers' | 'floats'; bits: 4 | 8; symmetric: boolean }
  | { method: 'mxfp4' }
  | { method: 'mlx'; groupSize: number; groupSizes: Readonly<Record<string, number>> }

const anything = z.unknown().optional()
const groupSize = z
  .int()
  .min(-1)
  .max(2 ** 20)
const modules = z.array(z.string()).nullish()
const none = z.union([z.null(), z.strictObject({}), z.array(z.never())]).optional()

const Fp8 = z.strictObject({
  quant_method: z.literal('fp8'),
  fmt: z.literal('e4m3').optional(),
  activation_scheme: z.enum(['dynamic', 'static']).optional(),
  weight_block_size: z.tuple([z.int().min(1), z.int().min(1)]).nullish(),
  scale_fmt: z.enum(['float', 'ue8m0']).nullish(),
  modules_to_not_convert: modules,
  ignored_layers: modules,
  dequantize: z.boolean().optional(),
  kv_cache_scheme: none
})

const Awq = z.strictObject({
  quant_method: z.literal('awq'),
  bits: z.literal(4),
  group_size: groupSize,
  zero_point: z.literal(true),
  version: z.enum(['gemm', 'GEMM']).optional(),
  modules_to_not_convert: modules,
  // How another program runs them.
  backend: anything,
  do_fuse: anything,
  exllama_config: anything,
  fuse_max_seq_len: anything,
  modules_to_fuse: anything
})

const Gptq = z.strictObject({
  quant_method: z.literal('gptq'),
  bits: z.literal([4, 8]),
  group_size: groupSize,
  sym: z.boolean(),
  desc_act: z.boolean().optional(),
  checkpoint_format: z.enum(['gptq', 'gptq_v2']).nullish(),
  is_marlin_format: z.literal(false).nullish(),
  pack_dtype: z.literal('int32').optional(),
  dynamic: none,
  lm_head: z.boolean().nullish(),
  // How they were made, and how another program runs them.
  backend: anything,
  batch_size: anything,
  block_name_to_quantize: anything,
  cache_block_outputs: anything,
  damp_percent: anything,
  dataset: anything,
  disable_exllama: anything,
  exllama_config: anything,
  max_input_length: anything,
  meta: anything,
  model_file_base_name: anything,
  model_name_or_path: anything,
  model_seqlen: anything,
  module_name_preceding_first_block: anything,
  modules_in_block_to_quantize: anything,
  pad_token_id: anything,
  static_groups: anything,
  tokenizer: anything,
  true_sequential: anything,
  use_cuda_fp16: anything,
  use_exllama: anything
})

const CompressedWeights = z.strictObject({
  num_bits: z.literal([4, 8]),
  type: z.enum(['int', 'float']),
  symmetric: z.boolean(),
  strategy: z.enum(['group', 'channel', 'tensor', 'block']),
  group_size: groupSize.nullish(),
  block_structure: z.union([z.string(), z.array(z.int())]).nullish(),
  dynamic: z.literal(false).optional(),
  actorder: z.union([z.literal(false), z.enum(['static', 'weight', 'group'])]).nullish(),
  scale_dtype: anything,
  zp_dtype: anything,
  // How they were found.
  observer: anything,
  observer_kwargs: anything
})

const CompressedTensors = z.strictObject({
  quant_method: z.literal('compressed-tensors'),
  format: z.enum(['pack-quantized', 'int-quantized', 'float-quantized', 'naive-quantized']),
  config_groups: z.record(
    z.string(),
    z.strictObject({
      targets: z.array(z.string()),
      weights: CompressedWeights,
      // Inputs are rounded here as everywhere; theirs are not.
      input_activations: anything,
      output_activations: none,
      format: z.string().nullish()
    })
  ),
  ignore: modules,
  kv_cache_scheme: none,
  quantization_status: z.literal('compressed'),
  global_compression_ratio: anything,
  sparsity_config: z.union([none, z.looseObject({ format: z.literal('dense') })]),
  transform_config: none,
  version: anything
})

const Mxfp4 = z.strictObject({
  quant_method: z.literal('mxfp4'),
  modules_to_not_convert: modules,
  dequantize: z.boolean().optional()
})

const MlxSizes = z.strictObject({
  bits: z.literal([4, 8]),
  group_size: z.literal([32, 64, 128]),
  mode: z.literal('affine').optional()
})

type Parser = (value: unknown, refuse: (what: string) => never) => QuantizationScheme

/** @throws by `refuse`, naming what is not known. */
function checked<T>(schema: z.ZodType<T>, value: unknown, refuse: (what: string) => never): T {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  const unknown =
    issue.code === 'unrecognized_keys' ? issue.keys.map(key => JSON.stringify(key)).join(', ') : undefined
  const path = issue.path.join('.')
  return refuse(
    unknown === undefined
      ? `${path}: ${issue.message}`
      : `${path === '' ? '' : `${path}: `}the key ${unknown}`
  )
}

/** What quantised folders are read of, as people call it. */
export const QUANTIZATIONS = [
  'FP8',
  'AWQ',
  'GPTQ',
  'compressed-tensors',
  'MXFP4 (gpt-oss)',
  'MLX (4 and 8 bits)'
] as const

const METHODS: Record<string, Parser> = {
  fp8: (value, refuse) => ({
    method: 'fp8',
    blockSize: checked(Fp8, value, refuse).weight_block_size ?? undefined
  }),
  awq: (value, refuse) => ({ method: 'awq', groupSize: checked(Awq, value, refuse).group_size }),
  gptq: (value, refuse) => {
    const { bits, group_size, sym, checkpoint_format } = checked(Gptq, value, refuse)
    const zeroOffset = checkpoint_format === 'gptq_v2' ? 0 : 1
    return { method: 'gptq', bits, groupSize: group_size, symmetric: sym, zeroOffset }
  },
  'compressed-tensors': (value, refuse) => {
    const { format, config_groups } = checked(CompressedTensors, value, refuse)
    const [group, ...others] = Object.values(config_groups)
    if (group === undefined || others.length > 0)
      return refuse(`${others.length + 1} config_groups (only one)`)
    const { num_bits: bits, type, symmetric } = group.weights
    if (type === 'float' && bits !== 8) return refuse(`floats of ${bits} bits`)
    const kind = type === 'float' ? 'floats' : format === 'pack-quantized' ? 'packed' : 'integers'
    if (kind === 'integers' && bits !== 8) return refuse(`${format} of ${bits} bits`)
    return { method: 'compressed-tensors', kind, bits, symmetric }
  },
  mxfp4: (value, refuse) => {
    checked(Mxfp4, value, refuse)
    return { method: 'mxfp4' }
  }
}

/** MLX's own: sizes of all modules, and of those that differ under their names. */
const mlx: Parser = (value, refuse) => {
  const all = Object.entries(value as object)
  const isModule = ([name, sizes]: [string, unknown]) =>
    name.includes('.') || name === 'lm_head' || (typeof sizes === 'object' && sizes !== null)
  const own = checked(MlxSizes, Object.fromEntries(all.filter(entry => !isModule(entry))), refuse)
  const groupSizes: Record<string, number> = {}
  for (const [name, sizes] of all.filter(isModule)) {
    // true: as all others; false: not quantised, which the file shows.
    if (typeof sizes !== 'boolean') groupSizes[name] = checked(MlxSizes, sizes, refuse).group_size
  }
  return { method: 'mlx', groupSize: own.group_size, groupSizes }
}

/**
 * Reads `quantization_config`, or MLX's `quantization`, of a config.json.
 *
 * @returns undefined where the weights are plain floats.
 * @throws {UnsupportedModelError} naming a method, key or value that is not known: it may change what the numbers mean.
 */
export function quantizationScheme(
  file: string,
  config: { quantization_config?: unknown; quantization?: unknown }
): QuantizationScheme | undefined {
  const { quantization_config: named, quantization } = config
  const value = named ?? quantization ?? undefined
  if (value === undefined) return undefined
  const key = named === undefined || named === null ? 'quantization' : 'quantization_config'
  const refuse = (what: string): never => {
    throw new UnsupportedModelError(`${file}: ${key}: ${what} is not supported`)
  }
  if (typeof value !== 'object' || Array.isArray(value)) return refuse('what is no object')
  const method: unknown = (value as Record<string, unknown>).quant_method
  if (method === undefined && 'group_size' in value && 'bits' in value) return mlx(value, refuse)
  const parse = typeof method === 'string' && Object.hasOwn(METHODS, method) ? METHODS[method] : undefined
  if (parse === undefined) {
    return refuse(
      `the method ${JSON.stringify(method ?? null).slice(0, 40)} (known are ${Object.keys(METHODS).join(', ')} and MLX's)`
    )
  }
  return parse(value, refuse)
}
