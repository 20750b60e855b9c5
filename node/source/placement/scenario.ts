import type { Manifest } from '../../../models/manifest.ts'
import { kvBytesPerToken } from '../../../models/runtime/memory.ts'
import type { LayerProfile, LinkState, NodeRecord, Objective, Privacy } from '../../api.ts'
import { ASSUMED_LINK_MBPS, FRAME_BYTES, HOP_OVERHEAD_MS, TOKEN_BYTES } from '../../constants.ts'
import type { ScenarioInput } from '../../plan/index.ts'
import type { Corrections } from './corrections.ts'

type Pair = NonNullable<ScenarioInput['links']['pairs']>[number]

/** A device as the planner takes it: of what the directory knows of it, what a plan depends on. */
export interface Candidate {
  record: Pick<NodeRecord, 'peerId' | 'name' | 'profiles' | 'memory' | 'models' | 'leases'>
  /** What a new deployment may take of it. */
  memoryBytes: number
  /** Round trip to the source in ms, null before it was measured. */
  rttMs: number | null
}

export interface PlanningRequest {
  modelId: string
  modelName: string
  manifest: Manifest
  source: Candidate
  peers: Candidate[]
  /** Measured links; a pair that is not among them is taken for ASSUMED_LINK_MBPS. */
  links: LinkState[]
  /** Tokens that are in the KV caches before the prompt. @default 0 */
  cachedTokens?: number
  promptTokens: number
  newTokens: number
  /** Tokens of KV cache that each of the workload's sequences reserves. */
  contextTokens: number
  batch: ScenarioInput['workload']['batch']
  /** Peer id of the device that cloud-edge methods send layers to. */
  cloud: string | undefined
  objective: Objective
  privacy: Privacy
  /** What answers have taught; absent: the constants and profiles as they are. */
  corrections?: Pick<Corrections, 'computeFactors' | 'hopOverheadMs'> | undefined
}

/**
 * A snapshot of the directory in the form of a scenario file. A device that never timed this model takes the source's
 * times: a guess, but one that prefers no device over another.
 */
export function snapshotScenario(request: PlanningRequest): ScenarioInput {
  const { manifest, modelId, source, peers, corrections } = request
  const { hiddenSize } = manifest.shape
  const fallback: LayerProfile = source.record.profiles[modelId] ?? {}
  const devices = [source, ...peers]
  const profileOf = ({ record: { peerId, profiles } }: Candidate): LayerProfile => {
    const own = profiles[modelId]
    const factors = corrections?.computeFactors({ peerId, modelId, borrowed: own === undefined })
    return scaled(own ?? fallback, factors ?? { single: 1, batched: 1 })
  }
  return {
    devices: devices.map(({ record, memoryBytes }) => ({
      id: record.peerId,
      name: record.name,
      memoryBytes: Math.max(0, memoryBytes),
      profile: record.peerId
    })),
    source: source.record.peerId,
    ...(request.cloud !== undefined && { cloud: request.cloud }),
    links: {
      default: { mbps: ASSUMED_LINK_MBPS, latencyMs: 0 },
      hopOverheadMs: corrections?.hopOverheadMs ?? HOP_OVERHEAD_MS,
      pairs: [...assumedLinks(source, peers), ...measuredLinks(devices, request.links)]
    },
    model: {
      name: request.modelName,
      layers: manifest.layers.map(({ kind, bytes }) => ({
        kind,
        weightBytes: bytes,
        activationBytes: kind === 'head' ? TOKEN_BYTES : hiddenSize * Float32Array.BYTES_PER_ELEMENT,
        kvBytesPerToken: kind === 'decoder' ? kvBytesPerToken(manifest.shape) : 0
      }))
    },
    profiles: Object.fromEntries(devices.map(device => [device.record.peerId, profileOf(device)])),
    workload: {
      cachedTokens: request.cachedTokens ?? 0,
      promptTokens: request.promptTokens,
      newTokens: request.newTokens,
      batch: request.batch,
      contextTokens: request.contextTokens
    },
    privacy: request.privacy,
    metric: 'request',
    objective: request.objective
  }
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

/** Links that only a round trip is known of: right after a connect. Measured ones, being directed, win over them. */
function assumedLinks(source: Candidate, peers: readonly Candidate[]): Pair[] {
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

function measuredLinks(devices: readonly Candidate[], links: readonly LinkState[]): Pair[] {
  const ids = new Set(devices.map(({ record }) => record.peerId))
  return links
    .filter(({ from, to }) => ids.has(from) && ids.has(to))
    .map(({ from, to, mbps, rttMs }) => ({ from, to, mbps, latencyMs: latencyMs(mbps, rttMs) }))
}

/** What a transfer takes however small it is. */
function latencyMs(mbps: number, rttMs: number): number {
  return rttMs / 2 + (8 * FRAME_BYTES) / (1000 * mbps)
}
