import { join } from 'node:path'
import { CheckpointError } from '../errors.ts'
import { parseJsonObject, readJsonObject } from '../formats/files.ts'
import type { Architecture } from './architectures/architecture.ts'
import type { Checkpoint } from './checkpoint.ts'
import { type CheckpointConfig, parseConfig, parseGenerationConfig } from './config.ts'
import { HuggingFaceWeights } from './hugging-face-weights.ts'
import { HUGGING_FACE } from './naming.ts'
import { QuantizedWeights } from './quantization/weights.ts'
import { completeTokenizerConfig, readSideFiles, tokenizerNotices } from './side-files.ts'
import { resolveTiedHead } from './tied-head.ts'

const MAX_CONFIG_BYTES = 4 * 1024 * 1024

/** Opens a folder with config.json, tokenizer.json and safetensors. */
export async function openHuggingFace(
  dir: string,
  architectures?: readonly Architecture[]
): Promise<Checkpoint> {
  const { config, files } = await describeHuggingFace(dir, architectures)
  const folder = await HuggingFaceWeights.open(dir)
  try {
    const { quantization } = config
    const source = quantization === undefined ? folder : await QuantizedWeights.of(folder, quantization)
    const names = { ...HUGGING_FACE, ...config.architecture.names?.huggingFace }
    const { naming, tied, notices } = await resolveTiedHead(source, names, config.tied)
    notices.push(...tokenizerNotices(files))
    return { file: dir, config: { ...config, tied }, naming, interleaved: false, source, files, notices }
  } catch (error) {
    await folder.close()
    throw error
  }
}

/**
 * Reads all that a folder has besides its weights, which need not be there yet.
 *
 * @throws {UnsupportedModelError} or {CheckpointError}
 */
export async function describeHuggingFace(
  dir: string,
  architectures?: readonly Architecture[]
): Promise<Pick<Checkpoint, 'config' | 'files'>> {
  const config = await readConfig(dir, architectures)
  const files = await readSideFiles(dir, config.shape.vocabSize)
  completeTokenizerConfig(files, config.architecture.tokenizerClass)
  const generation = files.get('generation_config.json')
  if (generation !== undefined) {
    const file = join(dir, 'generation_config.json')
    const ids = parseGenerationConfig(parseJsonObject(file, generation), file)
    config.bosTokenId = ids.bosTokenId ?? config.bosTokenId
    config.eosTokenIds = ids.eosTokenIds ?? config.eosTokenIds
  }
  checkTokenIds(config, dir)
  return { config, files }
}

async function readConfig(dir: string, architectures?: readonly Architecture[]): Promise<CheckpointConfig> {
  const path = join(dir, 'config.json')
  const json = await readJsonObject(path, MAX_CONFIG_BYTES)
  if (json === undefined) throw new CheckpointError(path, 'is missing: not a Hugging Face checkpoint')
  return parseConfig(json, path, architectures)
}

function checkTokenIds({ shape, bosTokenId, eosTokenIds = [] }: CheckpointConfig, dir: string): void {
  for (const id of [...(bosTokenId === undefined ? [] : [bosTokenId]), ...eosTokenIds]) {
    if (id < shape.vocabSize) continue
    throw new CheckpointError(
      dir,
      `token id ${id} (bos or eos) is outside the vocabulary of ${shape.vocabSize}`
    )
  }
}
