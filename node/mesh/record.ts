import { z } from 'zod'
import { peerIdSchema } from '../../protocols/peer-id.ts'
import { plainText } from '../../protocols/text.ts'
import type { NodeRecord } from '../api.ts'

export const MAX_NAME_CHARS = 64
export const MAX_MODEL_NAME_CHARS = 120
export const MAX_LINK_MBPS = 1e7
export const MAX_LINK_SPREAD = 100
export const MAX_LINK_AGE_MS = 1e12
export const MAX_ENTRIES = { models: 256, leases: 64, profiles: 64, links: 128 }

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
  outMbps: z.number().gt(0).max(MAX_LINK_MBPS),
  inMbps: z.number().gt(0).max(MAX_LINK_MBPS),
  rttMs: time,
  spread: z.number().min(0).max(MAX_LINK_SPREAD),
  ageMs: z.number().min(0).max(MAX_LINK_AGE_MS),
  inAgeMs: z.number().min(0).max(MAX_LINK_AGE_MS).optional()
})

/** The lists of a record, entry by entry: who builds one leaves out what peers would refuse the whole record for. */
export const recordEntries = {
  models: z.object({ name: text(MAX_MODEL_NAME_CHARS), id: modelId, layers: z.array(layers).max(1024) }),
  leases: z.object({ modelId, layers, source: peerIdSchema }),
  profiles: z.tuple([modelId, z.record(kind, layerTimes)]),
  links: z.tuple([peerIdSchema, link])
}

/** A peer's record of itself as it arrives: every string and list is capped; unknown fields of newer versions drop out. */
export const nodeRecordSchema: z.ZodType<NodeRecord> = z.object({
  peerId: peerIdSchema,
  name: text(MAX_NAME_CHARS),
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
  models: z.array(recordEntries.models).max(MAX_ENTRIES.models),
  leases: z.array(recordEntries.leases).max(MAX_ENTRIES.leases).default([]),
  profiles: z
    .record(modelId, z.record(kind, layerTimes))
    .refine(profiles => Object.keys(profiles).length <= MAX_ENTRIES.profiles, 'too many profiles'),
  links: z
    .record(peerIdSchema, link)
    .refine(links => Object.keys(links).length <= MAX_ENTRIES.links, 'too many links')
    .default({})
})
