/**
 * What tells one architecture of the Llama family from another: all share norm, grouped attention with rotary
 * embedding, and a gated feed-forward layer. To add one: a file like the others here, its line in index.ts, a test.
 */
export interface Architecture {
  /** `model_type` in config.json and `general.architecture` in GGUF. */
  name: string
  /** `architectures[0]` in config.json. */
  className: string
  /** q, k and v have biases. */
  attentionBias: boolean
  /** q and k are normalised per head before the rotary embedding. */
  queryKeyNorm: boolean
  /** What config.json leaves out. */
  defaults: { kvHeads?: number; headSize?: number; ropeTheta: number; normEpsilon: number; tied: boolean }
  /** Whether config.json's `sliding_window` limits attention, judged by the rest of it. */
  slidingWindow: (config: { use_sliding_window?: boolean | undefined }) => boolean
  /** GGUF files have the rows of q and k in interleaved rotary order. */
  ggufInterleaved: boolean
}
