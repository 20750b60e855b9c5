import { join } from 'node:path'
import { CheckpointError } from '../errors.ts'
import { parseJsonObject, readJsonObject } from '../formats/files.ts'
import type { Architecture } from './architectures/architecture.ts'
import type { Checkpoint } from './checkpoint.ts'
import { type CheckpointConfig, parseConfig, parseGenerationConfig } from './config.ts'
import { namesOfGuessing } from './guessing-layers.ts'
import { HuggingFaceWeights } from './hugging-face-weights.ts'
import { HUGGING_FACE, type Naming } from './naming.ts'
import { poolingOf } from './pooling-card.ts'
import { QuantizedWeights } from './quantization/weights.ts'
import { completeTokenizerConfig, readSideFiles, tokenizerNotices } from './side-files.ts'
import { resolveTiedHead } from './tied-head.ts'
import { isOfImages, unwrapConfig, type Wrapper, wrappedNaming } from './wrappers.ts'

const MAX_CONFIG_BYTES = 4 * 1024 * 1024

/** Opens a folder with config.json, tokenizer.json and safetensors. */
export async function openHuggingFace(
  dir: string,
  architectures?: readonly Architecture[]
): Promise<Checkpoint> {
  const { config, files, wrapper } = await describeHuggingFace(dir, architectures)
  const { experts } = config.architecture
  const own = { ...HUGGING_FACE, ...config.architecture.names?.huggingFace }
  const folder = await HuggingFaceWeights.open(dir, experts?.stacks?.transposed && stackNames(own))
  try {
    const { quantization } = config
    const source = quantization === undefined ? folder : await QuantizedWeights.of(folder, quantization)
    const names = wrapper === undefined ? own : wrappedNaming(own, source.names)
    const ofImages = wrapper === undefined ? [] : [...source.names].filter(isOfImages)
    const guessing = guessingNames(source.names, config)
    const dropped = [...ofImages, ...guessing]
    const { naming, tied, notices } = await resolveTiedHead(source, names, config.tied)
    notices.push(...config.notices, ...tokenizerNotices(files))
    const interleaved = config.architecture.interleaved.huggingFace
    if (wrapper !== undefined) notices.push(droppedNotice(wrapper, ofImages))
    return {
      ...{ file: dir, config: { ...config, tied }, naming, interleaved, source, files, notices, dropped },
      guessing,
      byTurns: experts?.stacks?.byTurns === true
    }
  } catch (error) {
    await folder.close()
    throw error
  }
}

/** Those of a folder's tensors that are of layers that guess further tokens. */
export function guessingNames(
  names: Iterable<string>,
  { shape, guessingLayers, architecture }: Checkpoint['config']
): string[] {
  return namesOfGuessing(names, {
    ...{ prefix: 'model.layers.', layers: shape.decoderLayers, count: guessingLayers },
    apart: architecture.guesses?.prefix
  })
}

/** How the names of stacks of experts end, in every layer. */
function stackNames({ expert_gate_up = [], expert_down = [] }: Naming): string[] {
  return [...expert_gate_up, ...expert_down].map(name => name.slice(name.indexOf('#') + 1))
}

/**
 * Reads all that a folder has besides its weights, which need not be there yet.
 *
 * @throws {UnsupportedModelError} or {CheckpointError}
 */
export async function describeHuggingFace(
  dir: string,
  architectures?: readonly Architecture[]
): Promise<Pick<Checkpoint, 'config' | 'files'> & { wrapper: Wrapper | undefined }> {
  const { config, wrapper } = await readConfig(dir, architectures)
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
  config.pooling = await poolingOf(dir)
  return { config, files, wrapper }
}

async function readConfig(
  dir: string,
  architectures?: readonly Architecture[]
): Promise<{ config: CheckpointConfig; wrapper: Wrapper | undefined }> {
  const path = join(dir, 'config.json')
  const json = await readJsonObject(path, MAX_CONFIG_BYTES)
  if (json === undefined) throw new CheckpointError(path, 'is missing: not a Hugging Face checkpoint')
  const { json: text, wrapper } = unwrapConfig(json, path)
  return { config: parseConfig(text, path, architectures), wrapper }
}

function droppedNotice({ modelType }: Wrapper, dropped: readonly string[]): string {
  const parts = new Set(dropped.map(name => name.slice(0, name.indexOf('.', 'model.'.length))))
  const what =
    dropped.length === 0
      ? ''
      : `, and ${dropped.length} tensors for images (${[...parts].join(', ')}) are left out`
  return `${modelType} takes text and images: its text part is read${what}`
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
