/** The placements ours is measured against, as the paper names them. */
import { price, valueMs } from './cost.ts'
import type { Placement, Solution } from './latency.ts'
import { paperDp } from './paper-dp.ts'
import { firstPlaces } from './places.ts'
import type { Method, Problem, Refusal, Segment } from './problem.ts'
import { violation, whyInfeasible } from './rules.ts'

/** A placement, or why the method has none. */
export type Outcome = { readonly placement: Placement } | Pick<Refusal, 'reason' | 'apart'>

export type Baseline = Exclude<Method, 'edgeshard'>

/**
 * `solve` is the exact planner: cloud-edge-opt gives it the source and the cloud device alone. The paper knows no
 * processors: each device is taken for its first.
 */
export function baseline(problem: Problem, method: Baseline, solve: (problem: Problem) => Solution): Outcome {
  const { alone, places } = firstPlaces(problem)
  const outcome = chosen(alone, method, solve)
  if (!('placement' in outcome)) return outcome
  const { placement } = outcome
  const segments = placement.segments.map(segment => ({ ...segment, device: places[segment.device]! }))
  return { placement: { ...placement, segments } }
}

function chosen(problem: Problem, method: Baseline, solve: (problem: Problem) => Solution): Outcome {
  switch (method) {
    case 'edge-solo':
      return run(problem, [{ device: problem.source, start: 0, end: problem.layers.length }])
    case 'cloud-edge-even':
      return withCloud(problem, cloud => run(problem, cloudEdgeEven(problem, cloud)))
    case 'cloud-edge-opt':
      return withCloud(problem, cloud => cloudEdgeOpt(problem, cloud, solve))
    case 'edgeshard-even':
      return run(problem, edgeshardEven(problem))
    case 'paper-dp': {
      const outcome = paperDp(problem)
      return 'reason' in outcome ? outcome : run(problem, outcome.segments)
    }
  }
}

function withCloud(problem: Problem, plan: (cloud: number) => Outcome): Outcome {
  if (problem.cloud === undefined)
    return { reason: 'no cloud device: name one in the scenario or with --cloud' }
  if (problem.cloud === problem.source) return { reason: 'the cloud device is the source itself' }
  return plan(problem.cloud)
}

/** The best batch and number of micro-batches for given stages; the rule they break where there is none. */
function run(problem: Problem, segments: readonly Segment[]): Outcome {
  const { min, max } = problem.workload.batch
  const throughput = problem.objective === 'throughput'
  let best: Placement | undefined
  let reason = ''
  for (let batch = min; batch <= (throughput ? max : min); batch++) {
    const broken = violation(problem, segments, batch)
    if (broken !== undefined && broken.rule !== 'repeat') {
      if (batch === min) reason = broken.reason
      break
    }
    for (let microBatches = 1; microBatches <= (throughput ? batch : 1); microBatches++) {
      const value = valueMs(problem, price(problem, segments, batch, microBatches), batch)
      if (best === undefined || value < best.valueMs) best = { segments, batch, microBatches, valueMs: value }
    }
  }
  return best === undefined ? { reason } : { placement: best }
}

/** The embedding and the first half of the decoder layers on the source, the rest on the cloud device. */
function cloudEdgeEven(problem: Problem, cloud: number): Segment[] {
  const { source } = problem
  const layers = problem.layers.length
  const cut = Math.min(layers, 1 + Math.floor(Math.max(0, layers - 2) / 2))
  const own = { device: source, start: 0, end: cut }
  return cut === layers ? [own] : [own, { device: cloud, start: cut, end: layers }]
}

function cloudEdgeOpt(problem: Problem, cloud: number, solve: (problem: Problem) => Solution): Outcome {
  const pair = [problem.source, cloud]
  const small: Problem = {
    ...problem,
    devices: pair.map(index => problem.devices[index]!),
    source: 0,
    cloud: 1,
    links: pair.map(from => pair.map(to => problem.links[from]![to]!))
  }
  const { best } = solve(small)
  if (best === undefined) {
    return { reason: `out of memory: ${whyInfeasible(small, small.workload.batch.min)}` }
  }
  const segments = best.segments.map(segment => ({ ...segment, device: pair[segment.device]! }))
  return { placement: { ...best, segments } }
}

/** Decoder layers dealt equally over all devices in listed order, source first, the rest to the earlier. */
function edgeshardEven(problem: Problem): Segment[] {
  const layers = problem.layers.length
  const decoders = Math.max(0, layers - 2)
  const others = problem.devices.map((_, index) => index).filter(index => index !== problem.source)
  const order = [problem.source, ...others]
  const segments: Segment[] = []
  let start = 0
  order.forEach((device, place) => {
    const share = Math.floor(decoders / order.length) + (place < decoders % order.length ? 1 : 0)
    const end = start + share + (place === 0 ? 1 : 0)
    if (end > start) segments.push({ device, start, end })
    start = end
  })
  const last = segments.pop()!
  return [...segments, { ...last, end: layers }]
}
