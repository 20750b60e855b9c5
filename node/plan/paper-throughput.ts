/** Algorithm 2 of the paper, repaired (see paper-dp.ts): the slowest stage made as fast as possible. */
import { buildChain, edgeMs, rangeMs } from './chain.ts'
import { type Problem, pinnedPrefix, pinsHead, type Segment } from './problem.ts'
import { interchangeable } from './symmetry.ts'

/** Sets of devices it may look at; it needs 2^M, identical devices counted only by how many are used. */
const MAX_SETS = 1 << 13

/** Slowest stage of layers [0, i) by a set of devices that ends with one of them, by i. */
interface Row {
  readonly slowestMs: Float64Array
  readonly start: Int16Array
  readonly before: (Row | undefined)[]
  readonly device: number
}

/** The stages, undefined where nothing fits, or why the algorithm cannot be run. */
export function paperThroughput(problem: Problem): Segment[] | undefined | string {
  if (pinsHead(problem))
    return "the published algorithm cannot keep the head on the source (privacy 'sealed')"
  const chain = buildChain(problem, { kind: 'step', batch: problem.workload.batch.min, microBatch: 1 })
  const { layers, source } = chain
  const others = problem.devices.map((_, index) => index).filter(index => index !== source)
  const twin = others.map((k, c) =>
    others.findLastIndex((other, e) => e < c && interchangeable(chain, other, k))
  )
  const first: Row = {
    slowestMs: new Float64Array(layers + 1).fill(Number.POSITIVE_INFINITY),
    start: new Int16Array(layers + 1),
    before: [],
    device: source
  }
  const fits = chain.lastFit[source * (layers + 1)]!
  for (let end = pinnedPrefix(problem); end <= fits; end++)
    first.slowestMs[end] = rangeMs(chain, source, 0, end)

  let best = first
  let level = new Map<number, Row[]>([[0, [first]]])
  let sets = 1
  while (level.size > 0) {
    const next = new Map<number, Row[]>()
    for (const [set, rows] of level) {
      others.forEach((device, c) => {
        if (hasBit(set, c) || (twin[c]! >= 0 && !hasBit(set, twin[c]!))) return
        const row = fresh(layers, device)
        const entry = new Float64Array(layers + 1).fill(Number.POSITIVE_INFINITY)
        const from: (Row | undefined)[] = Array(layers + 1).fill(undefined)
        for (const before of rows) {
          for (let i = 1; i < layers; i++) {
            const ms = Math.max(before.slowestMs[i]!, edgeMs(chain, before.device, device, i))
            if (ms <= entry[i]! && ms < Number.POSITIVE_INFINITY) {
              entry[i] = ms
              from[i] = before
            }
          }
        }
        let reached = false
        for (let i = 1; i < layers; i++) {
          if (from[i] === undefined) continue
          for (let end = i + 1; end <= chain.lastFit[device * (layers + 1) + i]!; end++) {
            const ms = Math.max(entry[i]!, rangeMs(chain, device, i, end))
            if (ms > row.slowestMs[end]!) continue
            row.slowestMs[end] = ms
            row.start[end] = i
            row.before[end] = from[i]
            reached = true
          }
        }
        if (!reached) return
        if (row.slowestMs[layers]! < best.slowestMs[layers]!) best = row
        const key = set + 2 ** c
        const same = next.get(key)
        if (same === undefined) next.set(key, [row])
        else same.push(row)
      })
      sets += next.size
      if (sets > MAX_SETS)
        return `the published algorithm looks at 2^${others.length} sets of devices: too many`
    }
    level = next
  }
  return best.slowestMs[layers] === Number.POSITIVE_INFINITY ? undefined : trace(best, layers)
}

function fresh(layers: number, device: number): Row {
  return {
    slowestMs: new Float64Array(layers + 1).fill(Number.POSITIVE_INFINITY),
    start: new Int16Array(layers + 1),
    before: Array(layers + 1).fill(undefined),
    device
  }
}

function hasBit(set: number, c: number): boolean {
  return Math.floor(set / 2 ** c) % 2 === 1
}

function trace(row: Row, layers: number): Segment[] {
  const segments: Segment[] = []
  let at: Row | undefined = row
  let end = layers
  while (at !== undefined) {
    const start: number = at.start[end]!
    segments.push({ device: at.device, start, end })
    at = at.before[end]
    end = start
  }
  return segments.reverse()
}
