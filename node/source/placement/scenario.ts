import { timedKind, timedKinds } from '../../../models/blocks.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import {
  heldBytes,
  kvBytes,
  type StageRoomNeeds,
  slotTokens,
  stateBytes,
  weightBytes,
  workingBytes
} from '../../../models/runtime/memory.ts'
import type { LayerProfile, LinkState, Objective, Privacy } from '../../api.ts'
import {
  ASSUMED_LINK_MBPS,
  FRAME_BYTES,
  HOP_OVERHEAD_MS,
  TOKEN_BYTES,
  UNTIMED_BESIDE_FACTOR
} from '../../constants.ts'
import type { ScenarioInput } from '../../plan/index.ts'
import { timesOn } from '../../record-processors.ts'
import { assumedTimes } from './assumed-times.ts'
import { type Candidate, type Place, placesOf } from './candidate.ts'
import { turnsSaid } from './claims.ts'
import type { Corrections } from './corrections.ts'
import type { ExpectedGuesses } from './planning.ts'
import { headTokenMs, promptTokenMs } from './prompt-times.ts'
import { supposedLinks } from './supposed-links.ts'

/** A peer may say anything of a link. What is worse than this no plan uses, and a scenario could not hold it. */
const LEAST_MBPS = 0.001
const MOST_RTT_MS = 1e6
const AS_THEY_ARE = { single: 1, batched: 1 }

type Pair = NonNullable<ScenarioInput['links']['pairs']>[number]

export interface PlanningRequest {
  modelId: string
  modelName: string
  manifest: Manifest
  source: Candidate
  peers: Candidate[]
  /** Times of devices that have timed nothing of the model. @default the source's, else what its bytes say */
  untimed?: LayerProfile | undefined
  /** Measured links; a pair that is not among them is supposed of those that are, else taken for ASSUMED_LINK_MBPS. */
  links: LinkState[]
  /** Pairs that are not connected. */
  apart: readonly (readonly [string, string])[]
  /** Whether the source hands on what these pairs send each other. */
  relayed: boolean
  /** Tokens that are in the KV caches before the prompt. @default 0 */
  cachedTokens?: number
  promptTokens: number
  newTokens: number
  batch: ScenarioInput['workload']['batch']
  /** The most that a stage makes room for: for latency all of it is what the one sequence of the workload reserves. */
  room: StageRoomNeeds
  /** Peer id of the device that cloud-edge methods send layers to. */
  cloud: string | undefined
  objective: Objective
  privacy: Privacy
  /** Whether answers are computed to the bit. @default false */
  exact?: boolean | undefined
  /** Guesses that are fed ahead; absent: none. */
  guesses?: ExpectedGuesses | undefined
  /** What answers have taught; absent: the constants and profiles as they are. */
  corrections?: Pick<Corrections, 'computeFactors' | 'turnsMs' | 'hopOverheadMs'> | undefined
}

/**
 * A snapshot of the directory in the form of a scenario file. A device that never timed this model takes the source's
 * times: a guess, but one that prefers no device over another. A source that has not timed it takes what others' times say
 * of it, else its bytes.
 */
export function snapshotScenario(request: PlanningRequest): ScenarioInput {
  const { manifest, modelId, source, peers, corrections } = request
  const { hiddenSize } = manifest.shape
  const reserved = request.objective === 'latency' ? request.room.slots : 1
  const fallback: LayerProfile = request.untimed ?? source.record.profiles[modelId] ?? assumedTimes(manifest)
  const devices = [source, ...peers]
  const hopOverheadMs = corrections?.hopOverheadMs ?? HOP_OVERHEAD_MS
  // A plan's memory is that of its layers; what a stage takes besides is taken off what there is. The source may have two.
  const stageBytes = workingBytes(manifest, [0, manifest.layers.length], request.room)
  const besides = ({ record, processor, isBeside }: Place) => {
    const mayHaveTwo = record.peerId === source.record.peerId && !isBeside
    return mayHaveTwo && (peers.length > 0 || processor !== undefined) ? 2 * stageBytes : stageBytes
  }
  const profileOf = ({ record, processor, isBeside }: Place): LayerProfile => {
    const own = timesOn(record, modelId, processor)
    const { exact = false } = request
    const timed = { peerId: record.peerId, processor, modelId, borrowed: own === undefined, exact }
    const { single, batched } = corrections?.computeFactors(timed, own ?? fallback) ?? AS_THEY_ARE
    const assumed = own === undefined && isBeside ? UNTIMED_BESIDE_FACTOR : 1
    const known = forPrompt(complete(manifest, own ?? fallback), request.promptTokens)
    return scaled(known, { single: assumed * single, batched: assumed * batched })
  }
  const turnOf = ({ record, processor }: Place): { turnMs: number; frameMs: number } => {
    const { peerId } = record
    const own = timesOn(record, modelId, processor)
    const said = turnsSaid(record, source.record)
    const timed = { peerId, processor, modelId, borrowed: own === undefined }
    const isAlone = request.objective === 'latency'
    const { turnMs = 0, sharedTurnMs = 0, frameMs = 0 } = said ?? {}
    const asSaid = { single: turnMs, batched: sharedTurnMs + frameMs, whole: sharedTurnMs }
    const turns = corrections?.turnsMs(timed, own ?? fallback, said) ?? asSaid
    if (isAlone) return { turnMs: turns.single, frameMs: 0 }
    // Answers may have taught that all layers at once take more beside them than a part does.
    return { turnMs: turns.whole, frameMs: turns.batched - turns.whole }
  }
  const { guesses } = request
  const places = devices.map(device => placesOf(device, modelId))
  const memoryOf = (place: Place) => ({
    memoryBytes: Math.max(0, place.memoryBytes - besides(place)),
    profile: profileIdOf(place)
  })
  return {
    devices: devices.map((device, at) => {
      const [first, ...others] = places[at]!
      const { peerId: id, name } = device.record
      const one = { id, name, ...memoryOf(first!), ...turnOf(first!) }
      if (others.length === 0) return one
      const processors = places[at]!.map(place => ({ id: place.processor!, ...memoryOf(place) }))
      return { ...one, processors }
    }),
    source: source.record.peerId,
    ...(request.cloud !== undefined && { cloud: request.cloud }),
    links: {
      default: { mbps: ASSUMED_LINK_MBPS, latencyMs: 0 },
      hopOverheadMs,
      pairs: linkPairs(request, hopOverheadMs)
    },
    model: {
      name: request.modelName,
      layers: manifest.layers.map(({ kind }, layer) => ({
        kind: timedKind(manifest.shape, layer),
        weightBytes: heldBytes(manifest, [layer, layer + 1]),
        activationBytes: kind === 'head' ? TOKEN_BYTES : hiddenSize * Float32Array.BYTES_PER_ELEMENT,
        kvBytesPerToken: kvBytesOf(request, layer),
        stateBytes: reserved * stateBytes(manifest.shape, [layer, layer + 1])
      }))
    },
    profiles: Object.fromEntries(places.flat().map(place => [profileIdOf(place), profileOf(place)])),
    workload: {
      cachedTokens: request.cachedTokens ?? 0,
      promptTokens: request.promptTokens,
      newTokens: request.newTokens,
      batch: request.batch,
      contextTokens: reserved * slotTokens(request.room.maxTokens),
      ...(guesses && {
        speculation: {
          acceptance: guesses.acceptance,
          draftMs: draftMsOf(manifest, profileOf(places[0]![0]!), guesses.draftBytes)
        }
      })
    },
    privacy: request.privacy,
    metric: 'request',
    objective: request.objective
  }
}

/** A scenario in which every device is the processor that it uses, as those are that have one memory. */
export function oneMemoryEach(scenario: ScenarioInput): ScenarioInput {
  const devices = scenario.devices.map(device => {
    if (!('processors' in device)) return device
    const { processors, processorLinkMbps: _, ...one } = device
    const [{ memoryBytes, profile }] = processors as [(typeof processors)[number]]
    return { ...one, memoryBytes, profile }
  })
  return { ...scenario, devices }
}

/** The name under which the times of a place are listed. */
function profileIdOf({ record: { peerId }, processor, isBeside }: Place): string {
  return isBeside ? `${peerId} ${processor}` : peerId
}

/** Bytes of a layer's KV cache for a token, in the mean of a sequence's: a layer may keep fewer, or have room for more. */
function kvBytesOf({ manifest: { shape }, room }: PlanningRequest, layer: number): number {
  const tokens = slotTokens(room.maxTokens)
  return kvBytes(shape, [layer, layer + 1], tokens, room.frameTokens ?? PREFILL_CHUNK_TOKENS) / tokens
}

/** What a guess takes on the source: what it reads, at the pace at which the model's own layers are read there. */
function draftMsOf(manifest: Manifest, profile: LayerProfile, draftBytes: number): number {
  const modelBytes = weightBytes(manifest)
  const modelMs = manifest.layers.reduce(
    (sum, _, layer) => sum + (profile[timedKind(manifest.shape, layer)]?.decodeMs ?? 0),
    0
  )
  return (modelMs * draftBytes) / modelBytes
}

/** A profile with times of every kind: a device of an older version has timed the model's first block only. */
function complete({ shape }: Manifest, profile: LayerProfile): LayerProfile {
  const { decoder } = profile
  if (decoder === undefined) return profile
  const lacking = timedKinds(shape).filter(({ kind }) => profile[kind] === undefined)
  return { ...profile, ...Object.fromEntries(lacking.map(({ kind }) => [kind, decoder])) }
}

/** Times in which a token of a prompt is one of a prompt of that length. */
function forPrompt(profile: LayerProfile, promptTokens: number): LayerProfile {
  const kinds = Object.entries(profile).map(([kind, times]) => {
    const tokenMs = kind === 'head' ? headTokenMs : promptTokenMs
    return [kind, { ...times, prefillMsPerToken: tokenMs(times, promptTokens) }]
  })
  return Object.fromEntries(kinds)
}

function scaled(
  profile: LayerProfile,
  { single, batched }: { single: number; batched: number }
): LayerProfile {
  const times = (points: Record<string, number> | undefined, factorOf: (at: string) => number) =>
    points && Object.fromEntries(Object.entries(points).map(([at, ms]) => [at, factorOf(at) * ms]))
  const kinds = Object.entries(profile).map(([kind, kindTimes]) => {
    const byBatch = times(kindTimes.decodeMsByBatch, batch => (batch === '1' ? single : batched))
    const byContext = times(kindTimes.decodeMsByContext, () => single)
    const prefill = times(kindTimes.prefillMsPerTokenByContext, () => single)
    return [
      kind,
      {
        decodeMs: single * kindTimes.decodeMs,
        prefillMsPerToken: single * kindTimes.prefillMsPerToken,
        ...(byBatch && { decodeMsByBatch: byBatch }),
        ...(byContext && { decodeMsByContext: byContext }),
        ...(prefill && { prefillMsPerTokenByContext: prefill })
      }
    ]
  })
  return Object.fromEntries(kinds)
}

function linkPairs({ source, peers, links, apart, relayed }: PlanningRequest, hopOverheadMs: number): Pair[] {
  const ids = new Set(peers.map(({ record }) => record.peerId))
  const unlinked = apart.filter(pair => pair.every(peerId => ids.has(peerId)))
  const isApart = (a: string, b: string) => unlinked.some(pair => pair.includes(a) && pair.includes(b))
  const assumed = assumedLinks(source, peers)
  const supposed = supposedLinks([...ids], links, source.record.peerId)
  const known = links.map(link => heartbeatSaid(link, { source, peers }))
  const measured = measuredLinks([source, ...peers], [...known, ...supposed]).filter(
    ({ from, to }) => !isApart(from, to)
  )
  if (!relayed) return [...assumed, ...measured, ...unlinked.map(([a, b]) => noLink(a, b))]
  const sourceId = source.record.peerId
  const hop = (from: string, to: string) =>
    measured.find(link => link.from === from && link.to === to) ??
    assumed.find(({ between }) => between.includes(from) && between.includes(to)) ?? {
      mbps: ASSUMED_LINK_MBPS,
      latencyMs: 0
    }
  const through = unlinked.flatMap(([a, b]) =>
    [
      [a, b],
      [b, a]
    ].map(([from, to]) => relay(from!, to!, [hop(from!, sourceId), hop(sourceId, to!)], hopOverheadMs))
  )
  return [...assumed, ...measured, ...through]
}

/**
 * A link of the source with the shorter one of its two round trips: a measurement may have been made while one of the two nodes
 * started, heartbeats go on.
 */
function heartbeatSaid(
  link: LinkState,
  { source, peers }: Pick<PlanningRequest, 'source' | 'peers'>
): LinkState {
  const { from, to } = link
  const sourceId = source.record.peerId
  if (from !== sourceId && to !== sourceId) return link
  const other = from === sourceId ? to : from
  const rttMs = peers.find(({ record }) => record.peerId === other)?.rttMs
  return typeof rttMs === 'number' && rttMs < link.rttMs ? { ...link, rttMs } : link
}

function noLink(a: string, b: string): Pair {
  return { between: [a, b], connected: false }
}

/** Two hops, one after the other, as one link, which has the overhead of one already. */
function relay(
  from: string,
  to: string,
  hops: { mbps: number; latencyMs: number }[],
  hopOverheadMs: number
): Pair {
  const msPerMbit = hops.reduce((sum, { mbps }) => sum + 1 / mbps, 0)
  const latencyMs = hops.reduce((sum, hop) => sum + hop.latencyMs, 0)
  return { from, to, mbps: 1 / msPerMbit, latencyMs: latencyMs + hopOverheadMs }
}

/** Links that only a round trip is known of: right after a connect. Measured ones, being directed, win over them. */
function assumedLinks(source: Candidate, peers: readonly Candidate[]) {
  return peers.flatMap(({ record, rttMs }) =>
    rttMs === null
      ? []
      : [
          {
            between: [source.record.peerId, record.peerId] as [string, string],
            mbps: ASSUMED_LINK_MBPS,
            latencyMs: latencyMs(ASSUMED_LINK_MBPS, rttMs)
          }
        ]
  )
}

function measuredLinks(devices: readonly Candidate[], links: readonly LinkState[]) {
  const ids = new Set(devices.map(({ record }) => record.peerId))
  return links
    .filter(({ from, to }) => ids.has(from) && ids.has(to))
    .map(({ from, to, mbps: said, rttMs: saidMs }) => {
      const [mbps, rttMs] = [Math.max(said, LEAST_MBPS), Math.min(saidMs, MOST_RTT_MS)]
      return { from, to, mbps, latencyMs: latencyMs(mbps, rttMs) }
    })
}

/** What a transfer takes however small it is. */
function latencyMs(mbps: number, rttMs: number): number {
  return rttMs / 2 + (8 * FRAME_BYTES) / (1000 * mbps)
}
