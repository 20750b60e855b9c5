import { MAX_MESSAGE_BYTES } from '../../protocols/constants.ts'
import {
  MAX_ENTRIES,
  MAX_MODEL_NAME_CHARS,
  MAX_PROCESSOR_MODELS
} from '../../protocols/directory/constants.ts'
import { type NodeRecord, recordEntries } from '../../protocols/directory/index.ts'
import { type ProcessorState, stageTimes } from '../../protocols/directory/record.ts'
import { plainText } from '../../protocols/text.ts'

type Lists = Pick<NodeRecord, keyof typeof MAX_ENTRIES>
type Name = keyof Lists
type Entries = Record<Name, unknown[]>

/** How much of one of the record's lists was left out. */
export interface LeftOut {
  list: Name | typeof OTHER_PROFILES
  missing: number
  of: number
}

const NAMES = Object.keys(MAX_ENTRIES) as Name[]
/** The message around a record and its fields that are no lists stay far below the rest. */
const MAX_LISTS_BYTES = MAX_MESSAGE_BYTES - 4096

/** Share of what all lists may take that processors with their times may. */
const MAX_PROCESSORS_SHARE = 0.25
/** Profiles of what computes beside the processor that the record's own are of. */
const OTHER_PROFILES = 'profiles of other processors'

/**
 * What a node may say of itself: its record without what the peers would refuse the whole of it for. Of lists that are
 * too long the newest entries stay.
 *
 * @param maxListsBytes - what all lists may take in the record's JSON
 * @returns the record, and what was left out of it
 */
export function sayable(
  own: NodeRecord,
  maxListsBytes = MAX_LISTS_BYTES
): { record: NodeRecord; leftOut: LeftOut[] } {
  const models = own.models.map(model => ({ ...model, name: plainText(model.name, MAX_MODEL_NAME_CHARS) }))
  const all: Entries = {
    models,
    leases: own.leases,
    profiles: Object.entries(own.profiles),
    links: Object.entries(own.links)
  }
  const kept = { ...all }
  for (const name of NAMES) {
    const valid = all[name].filter(entry => recordEntries[name].safeParse(entry).success)
    kept[name] = valid.slice(-MAX_ENTRIES[name])
  }
  const processors = withinBytes(own.processors?.map(withValidTimes), MAX_PROCESSORS_SHARE * maxListsBytes)
  const leftBytes = maxListsBytes - (processors === undefined ? 0 : sizeOf(processors))
  const bytesOf = (name: Name) => sizeOf(kept[name])
  while (
    NAMES.some(name => kept[name].length > 0) &&
    NAMES.reduce((sum, name) => sum + bytesOf(name), 0) > leftBytes
  ) {
    const largest = NAMES.reduce((a, b) => (bytesOf(a) >= bytesOf(b) ? a : b))
    kept[largest] = kept[largest].slice(Math.ceil(kept[largest].length / 4))
  }
  const leftOut: LeftOut[] = NAMES.map(list => ({
    list,
    missing: all[list].length - kept[list].length,
    of: all[list].length
  }))
  const others = profilesOf(own.processors)
  leftOut.push({ list: OTHER_PROFILES, missing: others - profilesOf(processors), of: others })
  const lists = {
    models: kept.models,
    leases: kept.leases,
    profiles: Object.fromEntries(kept.profiles as [string, unknown][]),
    links: Object.fromEntries(kept.links as [string, unknown][])
  } as Lists
  return {
    record: { ...withValidStageTimes(own), ...lists, ...(processors && { processors }) },
    leftOut: leftOut.filter(({ missing }) => missing > 0)
  }
}

function withValidStageTimes({ stageTimes: said, ...own }: NodeRecord): NodeRecord {
  return stageTimes.safeParse(said).success ? { ...own, stageTimes: said } : own
}

function withValidTimes({ profiles, ...processor }: ProcessorState): ProcessorState {
  if (profiles === undefined) return processor
  const valid = Object.entries(profiles).filter(entry => recordEntries.profiles.safeParse(entry).success)
  return { ...processor, profiles: Object.fromEntries(valid.slice(-MAX_PROCESSOR_MODELS)) }
}

function profilesOf(processors: NodeRecord['processors'] = []): number {
  return processors.reduce((sum, { profiles = {} }) => sum + Object.keys(profiles).length, 0)
}

/** Processors with the newest of their times, as far as these have room. */
function withinBytes(processors: NodeRecord['processors'], maxBytes: number): NodeRecord['processors'] {
  if (processors === undefined || sizeOf(processors) <= maxBytes) return processors
  const fewer = processors.map(({ profiles = {}, ...each }): ProcessorState => {
    const entries = Object.entries(profiles)
    const kept = entries.slice(Math.ceil(entries.length / 4))
    return kept.length === 0 ? each : { ...each, profiles: Object.fromEntries(kept) }
  })
  return fewer.some(({ profiles }) => profiles !== undefined) ? withinBytes(fewer, maxBytes) : fewer
}

function sizeOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value))
}
