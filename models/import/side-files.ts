import { join } from 'node:path'
import { CheckpointError } from '../errors.ts'
import { parseJsonObject, readSmallFile } from '../formats/files.ts'
import { MAX_SIDE_FILE_BYTES } from '../manifest-schema.ts'
import { tokenizerOfRanks } from './tiktoken.ts'
import { checkVocabulary } from './vocabulary.ts'

/** Files beside the weights that a source needs, where the checkpoint has them. */
const SIDE_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja'
]

const CONFIG = 'tokenizer_config.json'

/** Says in tokenizer_config.json which class a tokenizer is of, where the folder does not: the architecture's own. */
export function completeTokenizerConfig(files: Map<string, Uint8Array>, tokenizerClass: string): void {
  const bytes = files.get(CONFIG)
  const config = bytes === undefined ? {} : parseJsonObject(CONFIG, bytes)
  if (typeof config.tokenizer_class === 'string') return
  const complete = { ...config, tokenizer_class: tokenizerClass }
  files.set(CONFIG, new TextEncoder().encode(JSON.stringify(complete)))
}

/** What a tokenizer's configuration asks for that prompts here do not get. */
export function tokenizerNotices(files: ReadonlyMap<string, Uint8Array>): string[] {
  const bytes = files.get(CONFIG)
  const { add_eos_token } = bytes === undefined ? {} : parseJsonObject(CONFIG, bytes)
  return add_eos_token === true
    ? [
        `${CONFIG} has add_eos_token: raw prompts are read without that token behind them, so that a reply can follow; texts for embeddings have it`
      ]
    : []
}

/**
 * Reads the tokenizer and generation files of a Hugging Face folder.
 *
 * @throws {CheckpointError} when there is no tokenizer, or it names ids that the model has not.
 */
export async function readSideFiles(dir: string, vocabSize: number): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>()
  for (const name of SIDE_FILES) {
    const path = join(dir, name)
    const bytes = await readSmallFile(path, MAX_SIDE_FILE_BYTES)
    if (bytes === undefined || bytes.byteLength === 0) continue
    if (name.endsWith('.json')) {
      const json = parseJsonObject(path, bytes)
      if (name === 'tokenizer.json') checkVocabulary(json, vocabSize, path)
    }
    files.set(name, bytes)
  }
  if (files.has('tokenizer.json')) return files
  const made = await tokenizerOfRanks(dir, files.get(CONFIG), vocabSize)
  if (made === undefined) {
    throw new CheckpointError(
      dir,
      'has no tokenizer.json; save the tokenizer in its fast form (transformers: AutoTokenizer ... save_pretrained)'
    )
  }
  files.set('tokenizer.json', made)
  return files
}
