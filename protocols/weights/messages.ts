import { z } from 'zod'
import { MAX_BLOB_BYTES, MAX_WEIGHT_CREDIT_BYTES, MIN_WEIGHT_CREDIT_BYTES } from '../constants.ts'

export const weightsRequest = z.strictObject({
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  offset: z.int().min(0).max(MAX_BLOB_BYTES),
  credit: z.int().min(MIN_WEIGHT_CREDIT_BYTES).max(MAX_WEIGHT_CREDIT_BYTES)
})

export const weightsReply = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('blob'), bytes: z.int().min(0).max(MAX_BLOB_BYTES) }),
  z.strictObject({
    type: z.literal('failed'),
    code: z.enum(['absent', 'busy', 'internal']),
    reason: z.string().max(500)
  })
])
