import type { GgufMetadata } from './gguf-metadata.ts'

/** What a GGUF file says of its tokens. */
export interface GgufVocabulary {
  file: string
  metadata: GgufMetadata
  tokens: string[]
  /** By token: see TokenType. */
  types: number[]
  /** What a text begins with, if anything. */
  bosToken: string | undefined
  unknownToken: string | undefined
}

/** ggml's enum llama_token_type. */
export const TokenType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const

/** The parts of tokenizer.json that depend on the kind of tokenizer. */
export interface TokenizerParts {
  /** Whether texts begin with the BOS token unless the metadata says otherwise. */
  byDefault: boolean
  /** What its user should know. */
  notices?: string[]
  parts: {
    normalizer: object | null
    pre_tokenizer: object | null
    post_processor: object | null
    decoder: object
    model: object
  }
}

/** Token to id; of equal tokens the first, which is the one that can be written. */
export function vocabularyObject(tokens: string[]): Record<string, number> {
  // Without a prototype, a token named __proto__ is one like any other.
  const vocab: Record<string, number> = Object.create(null)
  for (const [id, token] of tokens.entries()) vocab[token] ??= id
  return vocab
}
