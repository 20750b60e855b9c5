// Apart from what draws: who only asks a node loads these, and no more.

export const MAX_TOP_LOGPROBS = 20
/** Least nucleus, the likeliest token alone: what clients mean by a `topP` of 0. */
export const LEAST_TOP_P = 1e-9
/** More than any model has tokens. */
export const MAX_TOP_K = 2 ** 21
/** Together with the other lists of a specification it fits a message that opens a session. */
export const MAX_PENALTY_WINDOW = 4096
export const MAX_LOGIT_BIASES = 512
export const MAX_LOGIT_BIAS = 100
export const MAX_ENDS = 256
export const MIN_REPETITION = 0.01
export const MAX_REPETITION = 100
export const MAX_PENALTY = 100
