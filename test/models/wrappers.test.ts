import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
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
