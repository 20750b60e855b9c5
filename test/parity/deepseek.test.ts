import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { DEEPSEEK, VOCABULARY, writeDeepseek } from '../fixtures/deepseek.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { type DeepseekConfig, deepseekLogProbabilities } from '../reference/deepseek.ts'

/** More than a chunk of a prompt: the first one skips the head. */
const PROMPT = Array.from({ length: 41 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 4
/** Float32 against float64. */
const TOLERANCE = 1e-4

const YARN = {
  ...{ type: 'yarn' as const, factor: 40, original_max_position_embeddings: 32 },
  ...{ beta_fast: 4, beta_slow: 1, mscale: 1, mscale_all_dim: 1 }
}

/** Each family in the ways that its models differ in. */
const CASES: [what: string, type: string, config: DeepseekConfig, own: Record<string, unknown>][] = [
  [
    "V2: groups by their best, YaRN whose magnitudes differ, as the paper's",
    'deepseek_v2',
    {
      ...{ ...DEEPSEEK, topk_method: 'group_limited_greedy', norm_topk_prob: false },
      rope_scaling: { ...YARN, mscale: 1, mscale_all_dim: 0.5 }
    },
    { scoring_func: 'softmax', seq_aux: true, aux_loss_alpha: 0.001, moe_layer_freq: 1, ep_size: 1 }
  ],
  [
    'V2-Lite: no groups, queries of the hidden state, the same magnitudes',
    'deepseek_v2',
    {
      ...{
        ...DEEPSEEK,
        topk_method: 'greedy',
        norm_topk_prob: false,
        q_lora_rank: null,
        n_group: 1,
        topk_group: 1
      },
      rope_scaling: { ...YARN, mscale: 0.7, mscale_all_dim: 0.7 }
    },
    {}
  ],
  [
    'Kimi K2: as V3, without groups',
    'kimi_k2',
    {
      ...{ ...DEEPSEEK, n_group: 1, topk_group: 1, routed_scaling_factor: 2.827 },
      rope_scaling: { ...YARN, factor: 32, beta_fast: 1 }
    },
    { scoring_func: 'sigmoid', num_nextn_predict_layers: 0, seq_aux: true, moe_layer_freq: 1, ep_size: 1 }
  ],
  [
    'V3: groups by their best two, corrected, YaRN',
    'deepseek_v3',
    { ...DEEPSEEK, rope_scaling: YARN },
    {
      scoring_func: 'sigmoid',
      topk_method: 'noaux_tc',
      num_nextn_predict_layers: 1,
      qk_head_dim: 24,
      head_dim: 8
    }
  ],
  [
    'Moonlight: V3 in one group, queries of the hidden state',
    'deepseek_v3',
    { ...DEEPSEEK, q_lora_rank: null, n_group: 1, topk_group: 1, routed_scaling_factor: 2.446 },
    {}
  ],
  [
    'GLM-4.7-Flash: layers by a list, weights as they are',
    'glm4_moe_lite',
    { ...DEEPSEEK, n_group: 1, topk_group: 1, first_k_dense_replace: 2, norm_topk_prob: false },
    { mlp_layer_types: ['dense', 'dense', 'sparse'], partial_rotary_factor: 1, rope_interleave: true }
  ]
]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it.each(CASES)('%s', async (_, type, config, own) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeDeepseek(dir, type, config, own)
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const model = { manifest, blobsDir: store.blobsDir }
  for (const cuts of [[], [1, 2, 3, 4]]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT, 32)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = deepseekLogProbabilities(config, name => tensors.get(name)!, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})
