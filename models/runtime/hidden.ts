import type { HiddenStates } from './runtime.ts'

/**
 * Tokens that a prompt is prefilled by. A weight block that is unpacked serves all tokens of a run, so a token's share
 * falls until about 32 (test/bench/runtime-speed.ts); longer chunks gain little and keep the next stage waiting.
 */
export const PREFILL_CHUNK_TOKENS = 32

/** Hidden states (tokens, hiddenSize) of zeros in shared memory. */
export function allocateHidden(tokens: number, hiddenSize: number): HiddenStates {
  return { tokens, data: new Float32Array(new SharedArrayBuffer(tokens * hiddenSize * 4)) }
}

/** Cuts `tokens` tokens into half-open ranges of at most `size`. */
export function prefillChunks(tokens: number, size = PREFILL_CHUNK_TOKENS): [start: number, end: number][] {
  const count = Math.ceil(tokens / size)
  return Array.from({ length: count }, (_, i) => [i * size, Math.min(tokens, (i + 1) * size)])
}
