import { z } from 'zod'
import { type LayerRange, MAX_LAYERS } from '../../models/layers.ts'
import { sha256 as modelId } from '../fields.ts'
import { peerIdSchema } from '../peer-id.ts'
import { plainText } from '../text.ts'
import {
  MAX_ENTRIES,
  MAX_LINK_AGE_MS,
  MAX_LINK_MBPS,
  MAX_LINK_SPREAD,
  MAX_MODEL_NAME_CHARS,
  MAX_NAME_CHARS,
  MAX_PROCESSOR_MODELS,
  MAX_PROCESSORS
} from './constants.ts'

/** What a node says of itself to its mesh; the directory holds one for every peer. */
export interface NodeRecord {
  peerId: string
  name: string
  version: string
  /** Increases with every change; an older one never replaces a newer one. */
  sequence: number
  /** Drawn anew at every start of the program, in 16 hex digits: two under one peer id are a home and its copy. */
  start?: string | undefined
  hardware: { platform: string; arch: string; cpu: string; cores: number; totalMemoryBytes: number }
  /** Budget for weights and KV cache of stages, and what of it is not leased: of the processor that is used, where several are named. */
  memory: { budgetBytes: number; freeBytes: number }
  models: { name: string; id: string; layers: LayerRange[] }[]
  /** Layer ranges in memory, each with the peer id of the source it is promised to. */
  leases: { modelId: string; layers: LayerRange; source: string }[]
  /** Time per layer by model id: what a planner's profile needs. */
  profiles: Record<string, LayerProfile>
  /** Times of stages on it beside their layers; absent: they were not taken. */
  stageTimes?: StageTimes | undefined
  /** What may compute its stages, one of them now; absent: its processors, as `hardware` says. */
  processors?: ProcessorState[] | undefined
  /** It is being drained: it grants no memory any more, and sources place what they have there on other devices. */
  draining?: boolean | undefined
  /** Weights on its disk for the case that it takes the place of another device, and what they may take; absent: it keeps none. */
  prefetch?: { quotaBytes: number; bytes: number } | undefined
  /** Links to peers, by peer id, as this node measured them. */
  links: Record<string, LinkEstimate>
}

/** A processor of a device, as the device names it. */
export interface ProcessorState {
  /** `cpu`, `gpu`; later ones may have others. */
  kind: string
  name: string
  /** Stages are loaded on it now. */
  used: boolean
  /** Rows came out the same to the bit in whatever steps and company, when that was tried; absent: not tried. */
  keepsBits?: boolean | undefined
  /** Ids of models whose layers it does not compute, though it is used: the CPU has them in its place. */
  refuses?: string[] | undefined
  /**
   * It computes stages of its own beside the one that is used, in this memory, which no other stage has; absent: it does not. Sources
   * say to `reserve` that they mean it, by its `kind`.
   */
  memory?: { budgetBytes: number; freeBytes: number } | undefined
  /** Its times per layer by model id, where it has `memory`. */
  profiles?: Record<string, LayerProfile> | undefined
}

/** One node's measurement of its link to a peer. */
export interface LinkEstimate {
  /** Goodput to the peer and from it, in millions of bits a second. */
  outMbps: number
  inMbps: number
  rttMs: number
  /** How far two measurements of one direction were apart, relative to their mean. */
  spread: number
  /** Since it was measured, when the record was sent. */
  ageMs: number
  /** Since `inMbps` was found, where that is not `ageMs`. */
  inAgeMs?: number | undefined
  /** `inMbps` was seen of what came over the link anyway. */
  observed?: boolean | undefined
  /** One of the two devices had too little of its processors when it was measured. */
  starved?: boolean | undefined
}

/** Times that a stage takes on a device beside its layers, whatever the model. */
export interface StageTimes {
  /** Of a step that comes alone, until it is handed on: its queue, and the way to its thread and back. */
  turnMs: number
  /** What a step keeps the device beside its layers, where steps follow each other. */
  sharedTurnMs: number
  /** To start, before its layers are loaded. */
  startMs: number
  /** For how long the tokens of a step of its own answers keep it beside its stages; absent: for no time that its stages lack. */
  tokenMs?: number | undefined
  /** The same of a step's frames, in and out, where its stage is one of several. */
  frameMs?: number | undefined
}

/** Times of one device for one model's layers: an entry of a scenario's `profiles`. */
export type LayerProfile = Record<
  string,
  {
    decodeMs: number
    decodeMsByBatch?: Record<string, number> | undefined
    /** By tokens before a step; `decodeMs` is meant at the first of them. */
    decodeMsByContext?: Record<string, number> | undefined
    prefillMsPerToken: number
    /** Whole prompts by their tokens, up to those that go at once; what `prefillMsPerToken` is a share of is the largest. */
    prefillMsByTokens?: Record<string, number> | undefined
    /** To load one that is on the disk, as one of several of a stage. */
    loadMs?: number | undefined
    /** By tokens before a prompt's token; `prefillMsPerToken` is meant at the first of them. */
    prefillMsPerTokenByContext?: Record<string, number> | undefined
  }
>

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

const layers = z
  .tuple([z.int().min(0).max(MAX_LAYERS), z.int().min(0).max(MAX_LAYERS)])
  .refine(([a, b]) => a <= b)
const kind = z.string().regex(/^[\w-]{1,40}$/)
const points = (key: RegExp) =>
  z
    .record(z.string().regex(key), time)
    .refine(points => Object.keys(points).length <= 8, 'too many points')
    .optional()
const contextPoints = points(/^[1-9]\d{0,7}$/)
const layerTimes = z.object({
  decodeMs: time,
  decodeMsByBatch: points(/^[1-9]\d{0,2}$/),
  decodeMsByContext: contextPoints,
  prefillMsPerToken: time,
  prefillMsByTokens: contextPoints,
  prefillMsPerTokenByContext: contextPoints,
  loadMs: time.optional()
})
/** Times of one device for one model's layers, as they arrive or are read again. */
export const layerProfile = z.record(kind, layerTimes)

/** What stages take beside their layers, as it arrives. */
export const stageTimes = z.object({
  turnMs: time,
  sharedTurnMs: time,
  startMs: time,
  tokenMs: time.optional(),
  frameMs: time.optional()
})

const link = z.object({
  outMbps: z.number().gt(0).max(MAX_LINK_MBPS),
  inMbps: z.number().gt(0).max(MAX_LINK_MBPS),
  rttMs: time,
  spread: z.number().min(0).max(MAX_LINK_SPREAD),
  ageMs: z.number().min(0).max(MAX_LINK_AGE_MS),
  inAgeMs: z.number().min(0).max(MAX_LINK_AGE_MS).optional(),
  observed: z.boolean().optional(),
  starved: z.boolean().optional()
})

const profilesUpTo = (most: number) =>
  z
    .record(modelId, layerProfile)
    .refine(profiles => Object.keys(profiles).length <= most, 'too many profiles')

const processor = z.object({
  kind,
  name: text(MAX_NAME_CHARS),
  used: z.boolean(),
  keepsBits: z.boolean().optional(),
  refuses: z.array(modelId).max(MAX_PROCESSOR_MODELS).optional(),
  memory: z.object({ budgetBytes: bytes, freeBytes: bytes }).optional(),
  profiles: profilesUpTo(MAX_PROCESSOR_MODELS).optional()
})

/** The lists of a record, entry by entry: its owner leaves out what peers would refuse the whole record for. */
export const recordEntries = {
  models: z.object({
    name: text(MAX_MODEL_NAME_CHARS),
    id: modelId,
    layers: z.array(layers).max(MAX_LAYERS)
  }),
  leases: z.object({ modelId, layers, source: peerIdSchema }),
  profiles: z.tuple([modelId, layerProfile]),
  links: z.tuple([peerIdSchema, link])
}

/** A peer's record of itself as it arrives: every string and list is capped; unknown fields of newer versions drop out. */
export const nodeRecordSchema: z.ZodType<NodeRecord> = z.object({
  peerId: peerIdSchema,
  name: text(MAX_NAME_CHARS),
  version: text(40),
  sequence: z.int().min(0),
  start: z
    .string()
    .regex(/^[0-9a-f]{16}$/)
    .optional(),
  hardware: z.object({
    platform: text(40),
    arch: text(40),
    cpu: text(120),
    cores: z.int().min(0).max(65_536),
    totalMemoryBytes: bytes
  }),
  memory: z.object({ budgetBytes: bytes, freeBytes: bytes }),
  processors: z.array(processor).max(MAX_PROCESSORS).optional(),
  stageTimes: stageTimes.optional(),
  draining: z.boolean().optional(),
  prefetch: z.object({ quotaBytes: bytes, bytes }).optional(),
  models: z.array(recordEntries.models).max(MAX_ENTRIES.models),
  leases: z.array(recordEntries.leases).max(MAX_ENTRIES.leases).default([]),
  profiles: profilesUpTo(MAX_ENTRIES.profiles),
  links: z
    .record(peerIdSchema, link)
    .refine(links => Object.keys(links).length <= MAX_ENTRIES.links, 'too many links')
    .default({})
})
