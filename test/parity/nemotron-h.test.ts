import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { writeGguf } from '../fixtures/gguf.ts'
import { DENSE, NANO, nemotronConfig, nemotronGguf, VOCABULARY } from '../fixtures/nemotron-h.ts'
import { writeRandom } from '../fixtures/published-checkpoint.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { type NemotronConfig, nemotronLogProbabilities, nemotronShapes } from '../reference/nemotron-h.ts'

/** More than a chunk of a prompt: the first one skips the head. */
const PROMPT = Array.from({ length: 41 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 4
/** Float32 against float64. */
const TOLERANCE = 1e-4

/** The same model as newer files say it. */
const BY_WORDS = {
  hybrid_override_pattern: undefined,
  num_hidden_layers: undefined,
  layers_block_type: ['linear_attention', 'moe', 'mamba', 'full_attention', 'moe', 'mamba', 'moe'],
  time_step_limit: [0, Number.POSITIVE_INFINITY]
}

const CASES: [what: string, config: NemotronConfig, own: Record<string, unknown>][] = [
  ['Nemotron-H: a head size by its older name', DENSE, { head_dim: undefined, attention_head_dim: 16 }],
  ['Nemotron 3 Nano: experts, groups normalised apart', NANO, {}]
]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it.each(CASES)('%s', async (_, config, own) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeRandom(dir, nemotronConfig(config, own), nemotronShapes(config, VOCABULARY))
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const layers = config.hybrid_override_pattern.length
  const everywhere = Array.from({ length: layers + 1 }, (_, i) => i + 1)
  const model = { manifest, blobsDir: store.blobsDir }
  for (const cuts of [[], everywhere]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT, 32)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = nemotronLogProbabilities(config, name => tensors.get(name)!, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})

it('newer files say the same by words', () => {
  const shapeOf = (own: Record<string, unknown>) =>
    parseConfig(nemotronConfig(NANO, own), 'config.json').shape
  expect(shapeOf(BY_WORDS)).toEqual(shapeOf({}))
  expect(shapeOf({ layer_types: BY_WORDS.layers_block_type })).toEqual(shapeOf({}))
})

it.each([
  ['dense', DENSE],
  ['with experts', NANO]
])('a GGUF file, as llama.cpp writes it, becomes the same layers: %s', async (_, config) => {
  await using folder = await temporaryFolder()
  const [dir, path] = [join(folder.path, 'checkpoint'), join(folder.path, 'model.gguf')]
  const shapes = nemotronShapes(config, VOCABULARY)
  const tensors = await writeRandom(dir, nemotronConfig(config), shapes)
  await writeGguf(path, nemotronGguf(config, tensors))
  const store = await ModelStore.open(join(folder.path, 'store'))
  const options = { checkTokenizer: false }
  const { manifest } = await importModel(dir, store, { name: 'folder', ...options })
  const other = await importModel(path, store, { name: 'file', ...options })
  expect(other.manifest.layers).toEqual(manifest.layers)
  expect(other.manifest.shape).toEqual(manifest.shape)
})

it.each([
  [
    'a latent vector of experts',
    { moe_latent_size: 16 },
    /moe_latent_size is 16: experts of a latent vector/
  ],
  ['a part that is not known', { hybrid_override_pattern: 'MXM*EME' }, /hybrid_override_pattern has "X"/],
  ['a number of layers that is another', { num_hidden_layers: 6 }, /has 7 layers, num_hidden_layers is 6/],
  [
    'other layers by another key',
    { layer_types: Array.from(NANO.hybrid_override_pattern, () => 'full_attention') },
    /layer_types does not say the same as hybrid_override_pattern/
  ],
  ['steps within limits', { time_step_limit: [0, 1] }, /time_step_limit \[0,1\]/],
  ['another activation', { mlp_hidden_act: 'silu' }, /activation "silu" \(only relu2/]
])('refuses %s', async (_, own, message) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  await writeRandom(dir, nemotronConfig(NANO, own), nemotronShapes(NANO, VOCABULARY))
  const store = await ModelStore.open(join(folder.path, 'store'))
  await expect(importModel(dir, store, { name: 'x', checkTokenizer: false })).rejects.toThrow(message)
})
