import { join } from 'node:path'
import { readJsonObject } from '../formats/files.ts'
import { GgufFile, type GgufPart } from '../formats/gguf.ts'
import { ggufCheckpoint } from './gguf.ts'
import { cannotKeep, joinsOf } from './guessing-plan.ts'
import { describeHuggingFace, guessingNames } from './hugging-face.ts'
import { MAX_INDEX_BYTES, parseWeightIndex, WEIGHT_INDEX } from './hugging-face-weights.ts'
import { chooseRounding, type ImportChoices } from './import-model.ts'
import type { Rounding } from './rounding.ts'

/**
 * Judges a GGUF model by its headers, before its gigabytes are there: all that an import checks but the weights' values. What
 * it takes in the store, and at which error, is said and chosen by a few rows of it.
 *
 * @param openPart opens one of its files, wherever it is, by its path
 * @returns the rounding that was chosen; undefined: as `options` say.
 * @throws {UnsupportedModelError} or {CheckpointError} as the import would.
 */
export async function judgeGguf(
  path: string,
  openPart: (path: string) => Promise<GgufPart>,
  options: ImportChoices = {}
): Promise<Rounding | undefined> {
  const checkpoint = await ggufCheckpoint(await GgufFile.open(path, openPart))
  try {
    return await chooseRounding(checkpoint, options)
  } finally {
    await checkpoint.source.close()
  }
}

/**
 * Judges a Hugging Face folder that has all but the weights yet, by its configuration and tokenizer, and by the names of its tensors
 * where it has an index that says them.
 *
 * @returns the names of the weights' files, where there is an index
 * @throws {UnsupportedModelError} or {CheckpointError} as the import would.
 */
export async function judgeHuggingFace(
  dir: string,
  { mtp = false }: Pick<ImportChoices, 'mtp'> = {}
): Promise<string[] | undefined> {
  const { config } = await describeHuggingFace(dir)
  if (mtp) joinsOf({ file: dir, config })
  const path = join(dir, WEIGHT_INDEX)
  const json = await readJsonObject(path, MAX_INDEX_BYTES)
  if (json === undefined) return undefined
  const index = parseWeightIndex(json, path)
  if (mtp && guessingNames(index.keys(), config).length === 0) {
    throw cannotKeep(dir, `none of its tensors are in ${WEIGHT_INDEX}`)
  }
  return [...new Set(index.values())].sort()
}
