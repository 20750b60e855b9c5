import { GgufFile } from '../formats/gguf.ts'
import type { Architecture } from './architectures/architecture.ts'
import type { Checkpoint } from './checkpoint.ts'
import { ggufConfig } from './gguf-config.ts'
import { ggufTokenizer } from './gguf-tokenizer.ts'
import { GgufWeights } from './gguf-weights.ts'
import { namesOfGuessing } from './guessing-layers.ts'
import { GGUF, type Naming } from './naming.ts'

/** Opens a GGUF file: shape, tokenizer and chat template come from its metadata. */
export async function openGguf(path: string, architectures?: readonly Architecture[]): Promise<Checkpoint> {
  return await ggufCheckpoint(await GgufFile.open(path), architectures)
}

/** The checkpoint in an open file, which is closed where it is none. */
export async function ggufCheckpoint(
  file: GgufFile,
  architectures?: readonly Architecture[]
): Promise<Checkpoint> {
  const { path } = file
  try {
    const config = await ggufConfig(file, architectures)
    const { files, bosTokenId, eosTokenIds, notices } = ggufTokenizer(
      path,
      file.metadata,
      config.shape.vocabSize
    )
    const source = new GgufWeights(file)
    const dropped = namesOfGuessing(source.names, {
      ...{ prefix: 'blk.', layers: config.shape.decoderLayers, count: config.guessingLayers }
    })
    return {
      file: path,
      config: { ...config, bosTokenId, eosTokenIds },
      naming: {
        ...GGUF,
        ...config.architecture.names?.gguf,
        ...joinedNaming(source.names, config.architecture)
      },
      interleaved: config.architecture.interleaved.gguf,
      byTurns: false,
      source,
      dropped,
      guessing: dropped,
      files,
      notices: [...config.notices, ...notices]
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

/**
 * Older files have in one projection what newer ones have apart, as Hugging Face's have: keys and values of latent vectors, and what
 * goes into Qwen3-Next's states.
 */
function joinedNaming(names: Iterable<string>, { recurrence }: Architecture): Naming {
  const all = new Set(names)
  const has = (pattern: string) => all.has(pattern.replace('#', '0'))
  const [latent, states] = ['blk.#.attn_kv_b.weight', 'blk.#.ssm_in.weight']
  return {
    ...(has(latent) && { key_value_up: [latent] }),
    ...(recurrence?.kind === 'gated-delta' && has(states) && { recurrence_in: [states] })
  }
}
