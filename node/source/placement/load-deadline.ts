import type { LinkState } from '../../api.ts'
import {
  LOAD_ASSUMED_MBPS,
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

/** Mbps of the slowest link that weights may come over, of those that were measured; undefined where none was. */
export function slowestMbps(
  { peerId, holders }: Pick<Load, 'peerId' | 'holders'>,
  links: readonly LinkState[]
): number | undefined {
  // Which of the holders has the layers that are missing is not known here: the slowest, perhaps.
  const rates = links
    .filter(({ from, to }) => to === peerId && holders.includes(from))
    .map(({ mbps }) => mbps)
  return rates.length === 0 ? undefined : Math.min(...rates)
}

/** Milliseconds after which a load is given up, however much progress it reports; see `LoadPace` for one that makes none. */
export function loadDeadlineMs(load: Load, links: readonly LinkState[]): number {
  const { bytes, allBytes } = load
  const mbps = Math.max(LOAD_LEAST_MBPS, slowestMbps(load, links) ?? LOAD_ASSUMED_MBPS)
  const fetchMs = (8 * allBytes) / (mbps * 1000)
  const readMs = (2 * bytes) / LOAD_READ_BYTES_PER_MS
  const deadlineMs = LOAD_DEADLINE_FLOOR_MS + LOAD_DEADLINE_FACTOR * fetchMs + readMs
  return Math.min(MAX_TIMEOUT_MS, Math.ceil(deadlineMs))
}
