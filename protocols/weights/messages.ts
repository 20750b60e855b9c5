import { z } from 'zod'
import { MAX_CODE_CHARS } from '../constants.ts'
import { reason, sha256 } from '../fields.ts'
import { weightsCode } from './codes.ts'
import { MAX_BLOB_BYTES, MAX_WEIGHT_CREDIT_BYTES, MIN_WEIGHT_CREDIT_BYTES } from './constants.ts'

export const weightsRequest = z.object({
  sha256,
  offset: z.int().min(0).max(MAX_BLOB_BYTES),
  credit: z.int().min(MIN_WEIGHT_CREDIT_BYTES).max(MAX_WEIGHT_CREDIT_BYTES)
})

export const weightsReply = z.discriminatedUnion('type', [
  z.object({
    type: z.literal('blob'),
    bytes: z.int().min(0).max(MAX_BLOB_BYTES),
    quiet: z.boolean().optional()
  }),
  z.object({
    type: z.literal('failed'),
    code: z.string().max(MAX_CODE_CHARS).transform(weightsCode),
    reason
  })
])
