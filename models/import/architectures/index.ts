import { UnsupportedModelError } from '../../errors.ts'
import { WRAPPERS } from '../wrappers.ts'
import { arcee } from './arcee.ts'
import type { Architecture } from './architecture.ts'
import { bailingMoe2 } from './bailing-moe-2.ts'
import { deepseekV2 } from './deepseek-v2.ts'
import { deepseekV3 } from './deepseek-v3.ts'
import { dots1 } from './dots1.ts'
import { ernie45 } from './ernie4-5.ts'
import { ernie45Moe } from './ernie4-5-moe.ts'
import { exaone4 } from './exaone4.ts'
import { gemma2 } from './gemma2.ts'
import { gemma3 } from './gemma3.ts'
import { gemma4 } from './gemma4.ts'
import { glm } from './glm.ts'
import { glm4 } from './glm4.ts'
import { glm4Moe } from './glm4-moe.ts'
import { glm4MoeLite } from './glm4-moe-lite.ts'
import { gptOss } from './gpt-oss.ts'
import { granite } from './granite.ts'
import { graniteHybrid } from './granite-hybrid.ts'
import { graniteMoe } from './granitemoe.ts'
import { hunyuanDense } from './hunyuan-dense.ts'
import { hunyuanMoe } from './hunyuan-moe.ts'
import { kimiK2 } from './kimi-k2.ts'
import { lfm2 } from './lfm2.ts'
import { lfm2Moe } from './lfm2-moe.ts'
import { llama } from './llama.ts'
import { minimaxM2 } from './minimax-m2.ts'
import { ministral3 } from './ministral3.ts'
import { mistral } from './mistral.ts'
import { mixtral } from './mixtral.ts'
import { nemotronH } from './nemotron-h.ts'
import { olmo2 } from './olmo2.ts'
import { olmo3 } from './olmo3.ts'
import { olmoe } from './olmoe.ts'
import { phi3 } from './phi3.ts'
import { qwen2 } from './qwen2.ts'
import { qwen2Moe } from './qwen2-moe.ts'
import { qwen3 } from './qwen3.ts'
import { qwen35 } from './qwen3-5.ts'
import { qwen35Moe } from './qwen3-5-moe.ts'
import { qwen3Moe } from './qwen3-moe.ts'
import { qwen3Next } from './qwen3-next.ts'
import { qwen3Vl } from './qwen3-vl.ts'
import { qwen3VlMoe } from './qwen3-vl-moe.ts'
import { seedOss } from './seed-oss.ts'
import { smollm3 } from './smollm3.ts'

export const ARCHITECTURES: readonly Architecture[] = [
  llama,
  mistral,
  qwen2,
  qwen3,
  qwen3Vl,
  ministral3,
  phi3,
  gemma2,
  gemma3,
  gemma4,
  granite,
  smollm3,
  olmo2,
  olmo3,
  glm,
  glm4,
  seedOss,
  ernie45,
  hunyuanDense,
  exaone4,
  arcee,
  mixtral,
  qwen2Moe,
  qwen3Moe,
  qwen3VlMoe,
  olmoe,
  graniteMoe,
  gptOss,
  glm4Moe,
  dots1,
  bailingMoe2,
  ernie45Moe,
  hunyuanMoe,
  qwen35,
  qwen35Moe,
  qwen3Next,
  lfm2,
  lfm2Moe,
  graniteHybrid,
  nemotronH,
  deepseekV2,
  deepseekV3,
  kimiK2,
  glm4MoeLite,
  minimaxM2
]

/** What files of a format call an architecture; nothing where the format has none of it. */
export const FORMAT_NAMES = {
  'config.json': ({ name, modelType }: Architecture) => [modelType ?? name],
  GGUF: ({ name, ggufName = name, ggufExpertsName }: Architecture) =>
    [ggufName, ggufExpertsName].filter(one => typeof one === 'string')
}

/**
 * The architecture that a file of a format means by a name.
 *
 * @throws {UnsupportedModelError} naming what was asked for and what there is.
 */
export function architectureOf(
  file: string,
  format: keyof typeof FORMAT_NAMES,
  name: unknown,
  architectures: readonly Architecture[] = ARCHITECTURES
): Architecture {
  const namesOf = FORMAT_NAMES[format]
  const found = architectures.find(architecture => namesOf(architecture).some(one => one === name))
  if (found !== undefined) return found
  const wrappers = format === 'GGUF' ? [] : WRAPPERS.map(({ modelType }) => modelType)
  const names = new Set([...architectures.flatMap(namesOf), ...wrappers])
  throw new UnsupportedModelError(
    `${file}: architecture ${JSON.stringify(name ?? null)} is not supported; supported are ${[...names].join(', ')}`
  )
}
