import { blockOf } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'

/**
 * Tokens that a layer with a window keeps behind it: a source goes back by so many, behind guesses that were wrong and to
 * where a conversation goes on otherwise.
 */
export const WINDOW_SLACK = 64
/**
 * What is dropped, is dropped by multiples of so many tokens, which position alone decides. Products over a cache add in
 * blocks of rows: an exact sequence is the same to the bit whenever rows were dropped, because these blocks stay.
 */
const DROPPED_AT_ONCE = { exact: 256, plain: 32 } as const
/** Rows that a step may have besides its tokens: one that is computed twice, and one that is for nobody. */
const SPARE_ROWS = 2

/** The window of a layer; undefined: none. */
export function windowOf(shape: ModelShape, layer: number): number | undefined {
  return blockOf(shape, layer).attention.window
}

/**
 * Tokens that a decoder layer's cache has room for, of sequences of up to `tokens`: all of them, or what its window needs.
 *
 * @param frameTokens that a step has at most; undefined: all are kept
 */
export function cacheTokens(
  window: number | undefined,
  tokens: number,
  frameTokens: number | undefined
): number {
  if (window === undefined || frameTokens === undefined) return tokens
  const kept = window - 1 + WINDOW_SLACK
  return Math.min(tokens, kept + DROPPED_AT_ONCE.exact - 1 + frameTokens + SPARE_ROWS)
}

/** The first token that a layer keeps when a step begins at `position`. */
export function firstKept(window: number, position: number, exact: boolean): number {
  const block = exact ? DROPPED_AT_ONCE.exact : DROPPED_AT_ONCE.plain
  const needed = position - (window - 1) - WINDOW_SLACK
  return Math.max(0, Math.floor(needed / block) * block)
}

/** Whether a sequence can go on at `position` where a layer has dropped the tokens before `first`. */
export function reachesBack(window: number, first: number, position: number): boolean {
  return first === 0 || position === 0 || first <= position - (window - 1)
}
