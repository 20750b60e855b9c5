import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { encodeSafetensors, type TestTensor, tinyTokenizer } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { gaussian } from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { PARTS, type PublishedFamily, publishedLogProbabilities } from '../reference/published.ts'

const [HIDDEN, FFN, VOCABULARY] = [32, 48, 64]
const WINDOW = 5
const PROMPT = Array.from({ length: 13 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 6
/** Float32 against float64. */
const TOLERANCE = 1e-4

const LLAMA: PublishedFamily = {
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  layers: 4,
  epsilon: 1e-5,
  theta: 10_000,
  rotated: 16,
  interleaved: false,
  isTurned: () => true,
  divisor: () => 1,
  window: () => Number.POSITIVE_INFINITY,
  bias: false,
  queryKeyNorm: 'none',
  norms: { attention: 'input_layernorm', mlp: 'post_attention_layernorm' },
  fusedGateUp: false,
  tied: false
}
const hasWindow = (layer: number) => (layer + 1) % 4 !== 0
const windows = (layer: number) => (hasWindow(layer) ? WINDOW : Number.POSITIVE_INFINITY)
const OUT = { attentionOut: 'post_attention_layernorm', mlpOut: 'post_feedforward_layernorm' }
const GLM = { rotated: 8, interleaved: true, fusedGateUp: true }

const EXPERTS = { count: 6, used: 2, stacked: false, module: 'mlp', router: 'gate', normalised: false }
const FACTORS = { embedding: 3, residual: 0.5, scores: 0.2, logits: 4 }

/** Families without a golden model: what config.json says, and how their code computes. */
const FAMILIES: [type: string, config: Record<string, unknown>, family: PublishedFamily][] = [
  ['seed_oss', { attention_bias: true, attention_out_bias: false }, { ...LLAMA, bias: true }],
  ['ernie4_5', { use_bias: false }, { ...LLAMA, interleaved: true, tied: true }],
  ['glm', { attention_bias: true, partial_rotary_factor: 0.5 }, { ...LLAMA, ...GLM, bias: true }],
  [
    'glm4',
    {},
    {
      ...LLAMA,
      ...GLM,
      norms: { ...LLAMA.norms, attentionOut: 'post_self_attn_layernorm', mlpOut: 'post_mlp_layernorm' }
    }
  ],
  [
    'exaone4',
    { sliding_window: WINDOW, sliding_window_pattern: 'LLLG' },
    { ...LLAMA, queryKeyNorm: 'head', norms: OUT, window: windows, isTurned: hasWindow }
  ],
  [
    'olmoe',
    { num_experts: 6, num_experts_per_tok: 2, norm_topk_prob: false, clip_qkv: null },
    { ...LLAMA, queryKeyNorm: 'all', experts: EXPERTS }
  ],
  [
    'olmoe',
    { num_experts: 6, num_experts_per_tok: 3, norm_topk_prob: true },
    { ...LLAMA, queryKeyNorm: 'all', experts: { ...EXPERTS, used: 3, normalised: true } }
  ],
  [
    'granitemoe',
    {
      num_local_experts: 6,
      num_experts_per_tok: 2,
      embedding_multiplier: FACTORS.embedding,
      residual_multiplier: FACTORS.residual,
      attention_multiplier: FACTORS.scores,
      logits_scaling: FACTORS.logits
    },
    {
      ...LLAMA,
      factors: FACTORS,
      experts: {
        ...{ ...EXPERTS, stacked: true, normalised: true },
        ...{ module: 'block_sparse_moe', router: 'router.layer' }
      }
    }
  ],
  [
    'minimax_m2',
    {
      ...{ num_local_experts: 6, num_experts_per_tok: 2, rotary_dim: 8, scoring_func: 'sigmoid' },
      ...{
        use_routing_bias: true,
        use_qk_norm: true,
        qk_norm_type: 'per_layer',
        attn_type_list: [1, 1, 1, 1]
      },
      ...{ shared_intermediate_size: 0, use_mtp: true, num_mtp_modules: 3, layernorm_mlp_beta: 1 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'all', rotated: 8 },
      experts: {
        ...{ ...EXPERTS, normalised: true, module: 'block_sparse_moe' },
        ...{ correction: 'e_score_correction_bias', parts: ['w1', 'w3', 'w2'] }
      }
    }
  ],
  ['exaone4', { sliding_window: null }, { ...LLAMA, queryKeyNorm: 'head', norms: OUT }],
  [
    'olmo3',
    { sliding_window: WINDOW, rope_scaling: { rope_type: 'linear', factor: 4 } },
    {
      ...LLAMA,
      queryKeyNorm: 'all',
      norms: OUT,
      window: windows,
      divisor: layer => (hasWindow(layer) ? 1 : 4)
    }
  ]
]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it.each(FAMILIES)('%s %j computes as its published code, whole and cut', async (type, config, family) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeFamily(dir, type, config, family)
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const model = { manifest, blobsDir: store.blobsDir }
  for (const cuts of [[], [1, 2, 3, 4, 5]]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = publishedLogProbabilities(family, name => tensors.get(name)!, HIDDEN, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})

/** Writes a checkpoint of random weights, named and shaped as the family's. */
async function writeFamily(
  dir: string,
  type: string,
  own: Record<string, unknown>,
  family: PublishedFamily
): Promise<Map<string, Float64Array>> {
  const { heads, kvHeads, headSize, layers, epsilon, theta } = family
  const config = {
    model_type: type,
    hidden_act: 'silu',
    hidden_size: HIDDEN,
    intermediate_size: FFN,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headSize,
    vocab_size: VOCABULARY,
    max_position_embeddings: 64,
    rms_norm_eps: epsilon,
    rope_theta: theta,
    bos_token_id: 1,
    eos_token_id: 2,
    ...own
  }
  const random = gaussian(7)
  const values = new Map<string, Float64Array>()
  const stored = new Map<string, TestTensor>()
  for (const [name, shape] of shapesOf(family)) {
    const norm = shape.length === 1
    const count = shape.reduce((product, n) => product * n, 1)
    const deviation = norm ? 0.2 : 2 / Math.sqrt(shape.at(-1)!)
    const data = Float32Array.from({ length: count }, () => random() * deviation + (norm ? 1 : 0))
    stored.set(name, { dtype: 'F32', shape, bytes: new Uint8Array(data.buffer) })
    values.set(name, Float64Array.from(data))
  }
  await mkdir(dir)
  await writeFile(join(dir, 'config.json'), JSON.stringify(config))
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify(tinyTokenizer(VOCABULARY)))
  await writeFile(join(dir, 'model.safetensors'), encodeSafetensors(stored))
  return values
}

function shapesOf(family: PublishedFamily): [name: string, shape: number[]][] {
  const { heads, kvHeads, headSize, norms, bias, queryKeyNorm, tied, layers } = family
  const rows = { q: heads * headSize, k: kvHeads * headSize, v: kvHeads * headSize }
  const inLayer: [name: string, shape: number[]][] = [
    ...(['q', 'k', 'v'] as const).flatMap((part): [string, number[]][] => [
      [`self_attn.${part}_proj.weight`, [rows[part], HIDDEN]],
      ...(bias ? [[`self_attn.${part}_proj.bias`, [rows[part]]] as [string, number[]]] : [])
    ]),
    ...(queryKeyNorm === 'none' ? [] : (['q', 'k'] as const)).map((part): [string, number[]] => [
      `self_attn.${part}_norm.weight`,
      [queryKeyNorm === 'all' ? rows[part] : headSize]
    ]),
    ['self_attn.o_proj.weight', [HIDDEN, rows.q]],
    ...feedForwardShapes(family),
    ...Object.values(norms).map((name): [string, number[]] => [`${name}.weight`, [HIDDEN]])
  ]
  return [
    ['model.embed_tokens.weight', [VOCABULARY, HIDDEN]],
    ...Array.from({ length: layers }, (_, layer) =>
      inLayer.map(([name, shape]): [string, number[]] => [`model.layers.${layer}.${name}`, shape])
    ).flat(),
    ['model.norm.weight', [HIDDEN]],
    ...(tied ? [] : [['lm_head.weight', [VOCABULARY, HIDDEN]] as [string, number[]]])
  ]
}

function feedForwardShapes({ experts, fusedGateUp }: PublishedFamily): [name: string, shape: number[]][] {
  const dense = (module: string): [name: string, shape: number[]][] => [
    ...(fusedGateUp
      ? [[`${module}.gate_up_proj.weight`, [2 * FFN, HIDDEN]] as [string, number[]]]
      : ['gate', 'up'].map((part): [string, number[]] => [`${module}.${part}_proj.weight`, [FFN, HIDDEN]])),
    [`${module}.down_proj.weight`, [HIDDEN, FFN]]
  ]
  if (experts === undefined) return dense('mlp')
  const { count, stacked, module, router, correction, parts = PARTS } = experts
  const all: [name: string, shape: number[]][] = stacked
    ? [
        [`${module}.input_linear.weight`, [count, 2 * FFN, HIDDEN]],
        [`${module}.output_linear.weight`, [count, HIDDEN, FFN]]
      ]
    : Array.from({ length: count }, (_, expert) =>
        dense(`${module}.experts.${expert}`).map(([name, shape], i): [string, number[]] => [
          name.replace(PARTS[i]!, parts[i]!),
          shape
        ])
      ).flat()
  return [
    [`${module}.${router}.weight`, [count, HIDDEN]],
    ...(correction === undefined ? [] : [[`${module}.${correction}`, [count]] as [string, number[]]]),
    ...all
  ]
}
