import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { unwrapConfig } from '../../models/import/wrappers.ts'
import { ModelStore } from '../../models/store/store.ts'
import { encodeSafetensors, type TestTensor, writeCheckpoint } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const PIXELS: TestTensor = { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }
const FORMS: readonly (readonly [name: string, model: string, head: string, images: string])[] = [
  ['transformers 4', 'language_model.model.', 'language_model.lm_head.', ''],
  ['transformers 5', 'model.language_model.', 'lm_head.', 'model.']
]

/** A Mistral in a folder of its own, then in one for text and images. */
async function wrapped(
  path: string,
  [, model, head, prefix]: (typeof FORMS)[number],
  outside: Record<string, unknown> = {}
): Promise<{ plain: string; dir: string }> {
  const [plain, dir] = [join(path, 'plain'), join(path, 'wrapped')]
  const config = { model_type: 'mistral', sliding_window: null, num_key_value_heads: 2 }
  const tensors = await writeCheckpoint(plain, { config })
  await writeCheckpoint(dir, { config })
  const {
    architectures: _,
    eos_token_id,
    ...text
  } = JSON.parse(await readFile(join(plain, 'config.json'), 'utf8'))
  const wrapper = {
    architectures: ['Mistral3ForConditionalGeneration'],
    model_type: 'mistral3',
    image_token_index: 10,
    spatial_merge_size: 2,
    vision_config: { hidden_size: 8, model_type: 'pixtral' },
    text_config: text,
    eos_token_id,
    ...outside
  }
  await writeFile(join(dir, 'config.json'), JSON.stringify(wrapper))
  const renamed = [...tensors].map(
    ([name, tensor]) => [name.replace(/^model\./, model).replace(/^lm_head\./, head), tensor] as const
  )
  const images = ['vision_tower.patch_conv.weight', 'multi_modal_projector.norm.weight'] as const
  const all = new Map([...renamed, ...images.map(name => [`${prefix}${name}`, PIXELS] as const)])
  await writeFile(join(dir, 'model.safetensors'), encodeSafetensors(all))
  return { plain, dir }
}

it.each(FORMS)('reads the text part as %s keeps it, and says what is left out', async (...form) => {
  await using folder = await temporaryFolder()
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { plain, dir } = await wrapped(folder.path, form)
  const alone = await importModel(plain, store, { name: 'plain' })
  const notices: string[] = []
  const inside = await importModel(dir, store, { name: 'in', onNotice: notice => notices.push(notice) })
  expect(inside.id).toBe(alone.id)
  expect(notices.join()).toMatch(
    /its text part is read, and 2 tensors for images \(.*vision_tower, .*\) are left out/
  )
})

it('refuses what it does not know beside the text part, and one without it', async () => {
  await using folder = await temporaryFolder()
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { dir } = await wrapped(folder.path, FORMS[0]!, { audio_config: {} })
  const importing = () => importModel(dir, store, { name: 'x' })
  await expect(importing()).rejects.toThrow(
    /the key "audio_config" beside text_config is not known for mistral3/
  )
  await writeFile(join(dir, 'config.json'), JSON.stringify({ model_type: 'mistral3' }))
  await expect(importing()).rejects.toThrow(/text_config is missing/)
  const other = { model_type: 'mistral3', architectures: ['Mistral3Model'], text_config: {} }
  await writeFile(join(dir, 'config.json'), JSON.stringify(other))
  await expect(importing()).rejects.toThrow(/"Mistral3Model" is not supported/)
})

it('reads what Qwen3-VL says of its text part', () => {
  const { json, wrapper } = unwrapConfig(
    {
      architectures: ['Qwen3VLForConditionalGeneration'],
      model_type: 'qwen3_vl',
      ...{ image_token_id: 151_655, video_token_id: 151_656 },
      ...{ vision_start_token_id: 151_652, vision_end_token_id: 151_653 },
      tie_word_embeddings: true,
      vision_config: { model_type: 'qwen3_vl', deepstack_visual_indexes: [5, 11, 17] },
      text_config: {
        ...{ model_type: 'qwen3_vl_text', hidden_act: 'silu', hidden_size: 2560, intermediate_size: 9728 },
        ...{ num_hidden_layers: 36, num_attention_heads: 32, num_key_value_heads: 8, head_dim: 128 },
        ...{ max_position_embeddings: 262_144, vocab_size: 151_936, rms_norm_eps: 1e-6 },
        ...{ rope_theta: 5_000_000, attention_bias: false, dtype: 'bfloat16' },
        rope_scaling: { mrope_interleaved: true, mrope_section: [24, 20, 20], rope_type: 'default' }
      }
    },
    'config.json'
  )
  const { shape, tied } = parseConfig(json, 'config.json')
  expect(wrapper?.modelType).toBe('qwen3_vl')
  expect(tied).toBe(true)
  expect(shape).toMatchObject({ architecture: 'qwen3_vl', headSize: 128, rope: { theta: 5_000_000 } })
  expect(shape.blocks).toEqual([
    expect.objectContaining({ attention: expect.objectContaining({ queryKeyNorm: 'head' }) })
  ])
})
