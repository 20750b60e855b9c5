/** What the layers of one session's range know of the first tokens of a sequence. */
export interface SavedPart {
  /** The first token that layers with a window still have, for each window. */
  firsts: number[]
  /** Keys and values, of each layer (parts, tokens, key or value), row-major, on memory that threads share. */
  memories: Float32Array<SharedArrayBuffer>[]
}

/**
 * What a KV cache has of the first tokens of a sequence, taken out of its slot: put into any slot of the same batch, they are
 * to the bit what they were.
 */
export interface SavedTokens {
  tokens: number
  /** In the order of the parts that the shard is loaded in. */
  parts: SavedPart[]
}
