/** How the next token is drawn from the logits. */
export interface Sampling {
  /** 0 takes the likeliest token. */
  temperature: number
  /** Smallest set of tokens whose probabilities sum to at least `topP`, in (0, 1]. */
  topP: number
  /** Same seed, position and logits: same token, on whichever stage, also after a recovery. */
  seed: number
  /** How many of the likeliest tokens to report with their log-probabilities, 0 to 20. */
  topLogprobs: number
}
