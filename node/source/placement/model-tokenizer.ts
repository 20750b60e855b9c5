import type { Manifest } from '../../../models/manifest.ts'
import type { ModelStore, StoredModel } from '../../../models/store/store.ts'
import { loadTokenizer, type Tokenizer } from '../../../models/tokenizer/tokenizer.ts'

/** The files of a model beside its layers, which have to be here, by name. */
export async function sideFilesOf(
  store: Pick<ModelStore, 'readSideFile'>,
  model: StoredModel
): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {}
  for (const file of Object.keys(model.manifest.files)) {
    files[file] = (await store.readSideFile(model, file))!
  }
  return files
}

/**
 * The tokenizer that a model's files make; its process has been started when this returns.
 *
 * @param mayRest whether that may end while it is idle; always by default
 */
export function tokenizerOf(
  files: Record<string, Uint8Array>,
  { bosTokenId, eosTokenIds, shape }: Manifest,
  mayRest?: () => boolean
): Promise<Tokenizer> {
  const { vocabSize, contextLength } = shape
  return loadTokenizer({ files, bosTokenId, eosTokenIds, vocabSize, contextLength, mayRest })
}
