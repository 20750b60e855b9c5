import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { RuntimeInputError } from './errors.ts'

/**
 * Which tokens may be drawn: a bit for each of the vocabulary, the first token's the lowest of the first byte, deflated.
 * A structure's mask is a few bytes so, a string's some hundreds, where plain bits are 4 to 32 KiB.
 */
export type TokenMask = Uint8Array

/** Of the largest vocabulary (2^18 tokens) where nothing can be deflated. */
export const MAX_MASK_BYTES = 33_024

/** @param bits one of each token; what is in the last byte behind the vocabulary is passed over */
export function packMask(bits: Uint8Array): TokenMask {
  return deflateRawSync(bits, { level: 1 })
}

/** Whether bits allow any of so many tokens; what is behind these says nothing. */
export function allowsSome(bits: Uint8Array, vocabSize: number): boolean {
  const whole = vocabSize >> 3
  if (bits.subarray(0, whole).some(byte => byte !== 0)) return true
  return ((bits[whole] ?? 0) & ((1 << (vocabSize & 7)) - 1)) !== 0
}

/** The bits of a mask for so many tokens. @throws {RuntimeInputError} where it is none */
export function unpackMask(mask: TokenMask, vocabSize: number): Uint8Array {
  const length = Math.ceil(vocabSize / 8)
  let bits: Uint8Array
  try {
    bits = inflateRawSync(mask, { maxOutputLength: length + 4 })
  } catch (error) {
    throw new RuntimeInputError(`a mask of ${mask.byteLength} bytes cannot be read: ${String(error)}`)
  }
  // It may come in words of 4 bytes.
  if (bits.byteLength >= length) return bits
  throw new RuntimeInputError(`a mask is for ${bits.byteLength * 8} tokens, the model has ${vocabSize}`)
}

/** Logits of which only those that a mask allows can be drawn. */
export function maskedLogits<T extends Float32Array | Float64Array>(logits: T, mask: TokenMask): T {
  const bits = unpackMask(mask, logits.length)
  const masked = logits.slice().fill(Number.NEGATIVE_INFINITY) as T
  let allowed = 0
  for (let byte = 0; byte * 8 < logits.length; byte++) {
    const here = bits[byte]!
    // In most masks most bytes are empty.
    if (here === 0) continue
    const end = Math.min(logits.length, byte * 8 + 8)
    for (let id = byte * 8; id < end; id++) {
      if (((here >> (id & 7)) & 1) === 0) continue
      masked[id] = logits[id]!
      allowed++
    }
  }
  if (allowed > 0) return masked
  throw new RuntimeInputError('a mask allows no token')
}
