import { z } from 'zod'
import { plainText } from '../../protocols/text.ts'
import type { NodeRecord } from '../types.ts'

const bytes = z
  .number()
  .min(0)
  .max(2 ** 53)
const time = z.number().min(0).max(1e9)
/** Names go to terminals and pages: one line without control characters, whatever the peer sent. */
const text = (maxChars: number) =>
  z
    .string()
    .max(maxChars * 4)
    .transform(value => plainText(value, maxChars))

const layers = z.tuple([z.int().min(0).max(1024), z.int().min(0).max(1024)]).refine(([a, b]) => a <= b)
const modelId = z.string().regex(/^[0-9a-f]{64}$/)
const kind = z.string().regex(/^[\w-]{1,40}$/)
const layerTimes = z.strictObject({
  decodeMs: time,
  decodeMsByBatch: z
    .record(z.string().regex(/^[1-9]\d{0,2}$/), time)
    .refine(points => Object.keys(points).length <= 8, 'too many points')
    .optional(),
  prefillMsPerToken: time
})

const link = z.strictObject({
  outMbps: z.number().gt(0).max(1e7),
  inMbps: z.number().gt(0).max(1e7),
  rttMs: time,
  spread: z.number().min(0).max(100),
  ageMs: z.number().min(0).max(1e12),
  inAgeMs: z.number().min(0).max(1e12).optional()
})

/** A peer's record of itself as it arrives: every string and list is capped; unknown fields of newer versions drop out. */
export const nodeRecordSchema: z.ZodType<NodeRecord> = z.object({
  peerId: z.string().max(128),
  name: text(64),
  version: text(40),
  sequence: z.int().min(0),
  hardware: z.object({
    platform: text(40),
    arch: text(40),
    cpu: text(120),
    cores: z.int().min(0).max(65_536),
    totalMemoryBytes: bytes
  }),
  memory: z.object({ budgetBytes: bytes, freeBytes: bytes }),
  models: z.array(z.object({ name: text(120), id: modelId, layers: z.array(layers).max(1024) })).max(256),
  profiles: z
    .record(modelId, z.record(kind, layerTimes))
    .refine(profiles => Object.keys(profiles).length <= 64, 'too many profiles'),
  links: z
    .record(z.string().max(128), link)
    .refine(links => Object.keys(links).length <= 128, 'too many links')
    .default({})
})
