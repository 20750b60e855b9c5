/**
 * The reference: every placement there is, one after the other, priced from the words of DESIGN.md.
 *
 * Shares no formula with the planner: times, memory and rates are written out again here. A device that lists processors
 * is several entries of `devices` with one id.
 */
import type { KindTimes, Problem, Segment } from '../../../node/plan/problem.ts'

export interface Best {
  readonly segments: readonly Segment[]
  readonly batch: number
  readonly microBatches: number
  readonly valueMs: number
}

function timesOf(problem: Problem, device: number, layer: number): KindTimes | undefined {
  return problem.devices[device]!.times.get(problem.layers[layer]!.kind)
}

function decode(times: KindTimes | undefined, b: number): number {
  return times === undefined ? 0 : times.decodeMs + (b - 1) * times.decodeMsPerExtraSequence
}

function fits(problem: Problem, segments: readonly Segment[], batch: number): boolean {
  return problem.devices.every((device, index) => {
    let bytes = 0
    for (const { device: on, start, end } of segments) {
      if (on !== index) continue
      for (let i = start; i < end; i++) {
        const { weightBytes, kvBytesPerToken, stateBytes } = problem.layers[i]!
        bytes += weightBytes + (kvBytesPerToken * problem.workload.contextTokens + stateBytes) * batch
      }
    }
    return bytes <= device.memoryBytes
  })
}

function ofSource({ devices, source }: Problem, device: number): boolean {
  return devices[device]!.id === devices[source]!.id
}

/** Where a stage hands on to; undefined where its token is at the source already. */
function handsTo(problem: Problem, segments: readonly Segment[], n: number): number | undefined {
  const next = segments[n + 1]
  if (next !== undefined) return next.device
  return ofSource(problem, segments[n]!.device) ? undefined : problem.source
}

/** Whether each device hands on to one that it is connected to, the last one to the source. */
function isLinked(problem: Problem, segments: readonly Segment[]): boolean {
  return segments.every(({ device }, n) => {
    const to = handsTo(problem, segments, n)
    return to === undefined || problem.links[device]![to]!.mbps > 0
  })
}

/** One pass of `tokens` tokens (of all sequences of a micro-batch) over the links: occupied times, delays. */
function passes(problem: Problem, segments: readonly Segment[], tokens: number, returned: number) {
  const hops = segments.map((segment, n) => {
    const next = segments[n + 1]
    const to = handsTo(problem, segments, n)
    if (to === undefined) return { busy: 0, delay: 0 }
    const link = problem.links[segment.device]![to]!
    const bytes = problem.layers[segment.end - 1]!.activationBytes * (next === undefined ? returned : tokens)
    return { busy: (8 * bytes) / (link.mbps * 1000), delay: link.delayMs }
  })
  return hops
}

function value(problem: Problem, segments: readonly Segment[], batch: number, m: number): number {
  const { promptTokens, newTokens } = problem.workload
  const beside = (device: number): number => {
    const { turnMs = 0, frameMs = 0 } = problem.devices[device]!
    return segments.length === 1 ? turnMs : turnMs + frameMs
  }
  const compute = (b: number): number[] =>
    segments.map(({ device, start, end }) => {
      let ms = 0
      for (let i = start; i < end; i++) ms += decode(timesOf(problem, device, i), b)
      return ms + beside(device)
    })
  const sum = (values: readonly number[]): number => values.reduce((total, ms) => total + ms, 0)
  const path = (tokens: number, returned: number): number =>
    sum(passes(problem, segments, tokens, returned).map(({ busy, delay }) => busy + delay))
  if (problem.objective === 'latency') {
    const tpot = sum(compute(1)) + path(1, 1)
    if (problem.metric === 'tpot') return tpot
    let prefill = 0
    for (const { device, start, end } of segments) {
      prefill += beside(device)
      for (let i = start; i < end; i++) {
        prefill += (timesOf(problem, device, i)?.prefillMsPerToken ?? 0) * promptTokens
      }
    }
    return prefill + path(promptTokens, 1) + (newTokens - 1) * tpot
  }
  const b = Math.ceil(batch / m)
  const step = sum(compute(b)) + path(b, b)
  const perDevice = new Map<number, number>()
  compute(b).forEach((ms, n) => {
    const { device } = segments[n]!
    perDevice.set(device, (perDevice.get(device) ?? 0) + ms)
  })
  const busiest = Math.max(...perDevice.values(), ...passes(problem, segments, b, b).map(({ busy }) => busy))
  return Math.max(step, m * busiest) / batch
}

function* placements(problem: Problem, segments: Segment[] = []): Generator<readonly Segment[]> {
  const layers = problem.layers.length
  const start = segments.at(-1)?.end ?? 0
  if (start === layers) {
    if (problem.privacy !== 'sealed' || ofSource(problem, segments.at(-1)!.device)) yield segments
    return
  }
  const pinned = Math.min(layers, Math.max(problem.keptLayers ?? 0, problem.privacy === 'embedding' ? 1 : 2))
  for (let device = 0; device < problem.devices.length; device++) {
    if (start < pinned && !ofSource(problem, device)) continue
    if (segments.at(-1)?.device === device) continue
    const isTail = segments[0]?.device === device
    if (!isTail && segments.some(segment => segment.device === device)) continue
    for (let end = isTail ? layers : start + 1; end <= layers; end++) {
      segments.push({ device, start, end })
      yield* placements(problem, segments)
      segments.pop()
    }
  }
}

/** The best placement by trying all; undefined where none fits. */
export function bruteForce(problem: Problem): Best | undefined {
  let best: Best | undefined
  const { min, max } = problem.workload.batch
  const throughput = problem.objective === 'throughput'
  for (const segments of placements(problem)) {
    if (!isLinked(problem, segments)) continue
    for (let batch = min; batch <= (throughput ? max : min); batch++) {
      if (!fits(problem, segments, batch)) continue
      for (let m = 1; m <= (throughput ? batch : 1); m++) {
        const valueMs = value(problem, segments, batch, m)
        if (best === undefined || valueMs < best.valueMs) {
          best = { segments: [...segments], batch, microBatches: m, valueMs }
        }
      }
    }
  }
  return best
}
