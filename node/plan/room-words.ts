import type { Problem } from './problem.ts'

/** Memory for tokens is reserved in such steps, so that a number between them helps nobody. */
export const TOKEN_STEP = 256

/**
 * Tokens of one sequence that a workload's KV cache has room for, as people count them: one of whole steps has a row more
 * than its tokens (slotTokens of models/runtime/memory.ts).
 */
export function roomTokens({ workload: { contextTokens } }: Problem): number {
  return contextTokens % TOKEN_STEP === 1 && contextTokens > 1 ? contextTokens - 1 : contextTokens
}

/** `` or ` with room for 512 tokens`, of each of so many sequences. */
export function withRoom(problem: Problem, batch: number): string {
  const tokens = roomTokens(problem)
  if (tokens === 0) return ''
  return ` with room for ${tokens} tokens${batch === 1 ? '' : ` in each of ${batch} sequences`}`
}
