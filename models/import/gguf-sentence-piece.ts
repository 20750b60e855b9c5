import { CheckpointError } from '../errors.ts'
import { pair } from './gguf-byte-pair.ts'
import { type GgufVocabulary, type TokenizerParts, TokenType, vocabularyObject } from './gguf-vocabulary.ts'

const MAX_PIECE_LENGTH = 512

/** SentencePiece's BPE (Llama 1 and 2, Mistral): spaces are ▁, what has no token is written in bytes. */
export function sentencePieceTokenizer(vocabulary: GgufVocabulary): TokenizerParts {
  const prefix = vocabulary.metadata.optionalFlag('tokenizer.ggml.add_space_prefix') ?? true
  return pieces(vocabulary, prefix, mergesOf(vocabulary))
}

/** Gemma 4's: the same pieces without a space before a text, and the merges in a list. */
export function gemma4Tokenizer(vocabulary: GgufVocabulary): TokenizerParts {
  const { file, metadata } = vocabulary
  const merges = metadata.texts('tokenizer.ggml.merges').map(merge => pair(file, merge))
  return pieces(vocabulary, metadata.optionalFlag('tokenizer.ggml.add_space_prefix') ?? false, merges)
}

function pieces(
  { tokens, unknownToken }: GgufVocabulary,
  prefix: boolean,
  merges: [string, string][]
): TokenizerParts {
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
  return {
    byDefault: true,
    parts: {
      normalizer: prefix
        ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replace] }
        : { type: 'Sequence', normalizers: [replace] },
      pre_tokenizer: null,
      post_processor: null,
      decoder: {
        type: 'Sequence',
        decoders: [
          { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
          { type: 'ByteFallback' },
          { type: 'Fuse' },
          ...(prefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [])
        ]
      },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: unknownToken ?? null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: true,
        byte_fallback: true,
        vocab: vocabularyObject(tokens),
        merges
      }
    }
  }
}

/**
 * SentencePiece joins, of all neighbours, the two whose joint piece has the best score; a list of merges in the order
 * of scores does the same. As transformers' convert_slow_tokenizer.py, generate_merges: best score first, then the
 * longer left part, then the longer right part.
 */
function mergesOf({ file, metadata, tokens, types }: GgufVocabulary): [string, string][] {
  const scores = metadata.optionalNumbers('tokenizer.ggml.scores')
  if (scores === undefined || scores.length !== tokens.length) {
    throw new CheckpointError(file, `${scores?.length ?? 0} scores for ${tokens.length} tokens`)
  }
  const ids = new Map(tokens.map((token, id) => [token, id]))
  const merges: { left: string; right: string; score: number; sizes: [number, number] }[] = []
  for (const [id, token] of tokens.entries()) {
    if (types[id] !== TokenType.normal || token.length > MAX_PIECE_LENGTH) continue
    const characters = [...token]
    const found: typeof merges = []
    for (let cut = 1; cut < characters.length; cut++) {
      const left = characters.slice(0, cut).join('')
      const right = characters.slice(cut).join('')
      if (!ids.has(left) || !ids.has(right)) continue
      found.push({ left, right, score: scores[id]!, sizes: [cut, characters.length - cut] })
    }
    found.sort((a, b) => ids.get(a.left)! - ids.get(b.left)! || ids.get(a.right)! - ids.get(b.right)!)
    merges.push(...found)
  }
  merges.sort((a, b) => b.score - a.score || b.sizes[0] - a.sizes[0] || b.sizes[1] - a.sizes[1])
  return merges.map(({ left, right }) => [left, right])
}
