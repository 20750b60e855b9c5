import type { LayerProfile, NodeRecord } from '../../api.ts'
import { besideFor, usedFor } from '../../record-processors.ts'

/** A device as the planner takes it: of what the directory knows of it, what a plan depends on. */
export interface Candidate {
  record: Pick<
    NodeRecord,
    'peerId' | 'name' | 'profiles' | 'stageTimes' | 'memory' | 'models' | 'leases' | 'processors' | 'prefetch'
  >
  /** What a new deployment may take of it. */
  memoryBytes: number
  /** The same of the memory of the processor that computes beside the one which is used; absent: what its record says is free. */
  besideBytes?: number | undefined
  /** Round trip to the source in ms, null before it was measured. */
  rttMs: number | null
}

/** What of a device may hold a stage of a model: the device, or each of its processors that have memory of their own. */
export interface Place {
  record: Candidate['record']
  /** Its kind of processor, where several have memory of their own. */
  processor?: string
  /** It computes beside the processor that the device uses. */
  isBeside: boolean
  /** What a new deployment may take of it. */
  memoryBytes: number
}

/** The places of a device for a model; that of the processor which it uses first. */
export function placesOf({ record, memoryBytes, besideBytes }: Candidate, modelId: string): Place[] {
  const beside = besideFor(record, modelId)
  if (beside === undefined) return [{ record, isBeside: false, memoryBytes }]
  const { kind, memory } = beside
  return [
    { record, processor: usedFor(record, modelId)!.kind, isBeside: false, memoryBytes },
    { record, processor: kind, isBeside: true, memoryBytes: besideBytes ?? memory.freeBytes }
  ]
}

/** A device with all the memory that it gives to stages. */
export function withAllMemory(candidate: Candidate, modelId: string): Candidate {
  const { record } = candidate
  const besideBytes = besideFor(record, modelId)?.memory.budgetBytes
  return { ...candidate, memoryBytes: record.memory.budgetBytes, besideBytes }
}

/** A record with the times of a model that are believed of the device's places. */
export function withTimes(
  record: Candidate['record'],
  modelId: string,
  believed: readonly { isBeside: boolean; profile: LayerProfile | undefined }[]
): Candidate['record'] {
  const timesOf = (isBeside: boolean) => {
    const profile = believed.find(place => place.isBeside === isBeside)?.profile
    return profile === undefined ? {} : { [modelId]: profile }
  }
  const { processors } = record
  const beside = besideFor(record, modelId)
  return {
    ...record,
    profiles: timesOf(false),
    ...(beside && {
      processors: processors!.map(each => (each === beside ? { ...each, profiles: timesOf(true) } : each))
    })
  }
}
