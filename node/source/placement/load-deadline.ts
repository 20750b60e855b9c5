import type { LinkState } from '../../api.ts'
import {
  LOAD_DEADLINE_FACTOR,
  LOAD_DEADLINE_FLOOR_MS,
  LOAD_LEAST_MBPS,
  LOAD_READ_BYTES_PER_MS
} from '../../constants.ts'

/** setTimeout's; 25 days. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1

/** What has to be fetched and read before a stage is ready. */
export interface Load {
  peerId: string
  /** Weights of this stage, and of all stages that are fetched at the same time over the same links. */
  bytes: number
  allBytes: number
  holders: readonly string[]
}

/** Milliseconds after which a load is given up, however much progress it reports. */
export function loadDeadlineMs(
  { peerId, bytes, allBytes, holders }: Load,
  links: readonly LinkState[]
): number {
  const rates = holders
    .filter(holder => holder !== peerId)
    .map(holder => links.find(({ from, to }) => from === holder && to === peerId)?.mbps ?? 0)
  // Which of the holders has the layers that are missing is not known here: the slowest, perhaps.
  const mbps = Math.max(LOAD_LEAST_MBPS, rates.length === 0 ? 0 : Math.min(...rates))
  const fetchMs = (8 * allBytes) / (mbps * 1000)
  const readMs = (2 * bytes) / LOAD_READ_BYTES_PER_MS
  const deadlineMs = LOAD_DEADLINE_FLOOR_MS + LOAD_DEADLINE_FACTOR * fetchMs + readMs
  return Math.min(MAX_TIMEOUT_MS, Math.ceil(deadlineMs))
}
