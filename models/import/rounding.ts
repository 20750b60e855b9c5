import type { Quantization } from '../manifest.ts'

/** What to round projections to: nothing (the checkpoint's own values, whatever they take), 8 or 4 bits. */
export type QuantizeMode = 'none' | 'q8' | 'q4'

/**
 * Weights that share a scale, by mode: decode is bound by the bytes read, and blocks of 128 have the fewest (4.5 bits a
 * weight after packing, where blocks of 64 have 5 and of 32 have 6). Perplexity of stories260K, whose rows of 64 are the
 * hardest case: float32 6.048, q8 6.063, q4 6.655 in blocks of 32 and 6.866 in blocks of 64 (llama.cpp's Q4_0: 6.803).
 */
export const BLOCK_SIZES = { q8: 128, q4: 128 } as const

/** How all projections are rounded, as a user says it. */
export interface Rounding {
  quantize: Exclude<QuantizeMode, 'none'>
  /** @default BLOCK_SIZES */
  blockSize?: number
}

/** Ways to import that are shown where the store takes clearly more than the file; smaller blocks lose less. */
export const ALTERNATIVES: readonly Rounding[] = [
  { quantize: 'q8' },
  { quantize: 'q4', blockSize: 32 },
  { quantize: 'q4' }
]

/** The blocks that a rounding makes. */
export function blocksOf({ quantize, blockSize = BLOCK_SIZES[quantize] }: Rounding): Quantization {
  return { bits: quantize === 'q8' ? 8 : 4, blockSize }
}

/** The options of the command line that ask for it. */
export function roundingOptions({ quantize, blockSize }: Rounding): string {
  return `--quantize ${quantize}${blockSize === undefined ? '' : ` --block ${blockSize}`}`
}
