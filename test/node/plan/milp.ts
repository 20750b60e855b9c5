/**
 * The same problem as a mixed-integer program, for a solver that knows nothing of ours.
 *
 * Binary y(i, d): layer i on place d; flow z(i, j, k) between the places of layers i and i + 1. The place of the first layers is
 * two places, its front (never entered again) and its tail (never left), which share one memory. Every other
 * place is entered at most once. For throughput one program a number of micro-batches, minimising the cycle. A source that
 * lists processors has one program for each that may hold the first layers.
 */
import type { Problem } from '../../../node/plan/problem.ts'

interface Places {
  /** Device, or one of its processors, of each place; the last place is the front's tail. */
  readonly deviceOf: readonly number[]
  readonly tail: number
}

function placesOf(problem: Problem, front: number): Places {
  const deviceOf = [...problem.devices.keys(), front]
  return { deviceOf, tail: problem.devices.length }
}

function layerMs(problem: Problem, device: number, i: number, b: number): number {
  const times = problem.devices[device]!.times.get(problem.layers[i]!.kind)
  return times === undefined ? 0 : times.decodeMs + (b - 1) * times.decodeMsPerExtraSequence
}

function hop(problem: Problem, from: number, to: number, i: number, b: number) {
  const link = problem.links[from]![to]!
  const busy = (8 * problem.layers[i]!.activationBytes * b) / (link.mbps * 1000)
  return { busy, all: busy + link.delayMs }
}

const term = (coefficient: number, name: string): string =>
  `${coefficient < 0 ? '-' : '+'} ${Math.abs(coefficient)} ${name}`

/**
 * The program in CPLEX LP format; its optimum V is T(b) for latency, the cycle in ms for throughput. With
 * `belowMs` only better plans than that are allowed: infeasible means that there is none. The first layer is on `source`.
 */
export function toLp(
  problem: Problem,
  batch: number,
  microBatches: number,
  belowMs?: number,
  source = problem.source
): string {
  const { deviceOf, tail } = placesOf(problem, source)
  const layers = problem.layers.length
  const places = deviceOf.length
  /** Places of the source, the front and its tail among them. */
  const own = deviceOf.flatMap((on, d) =>
    problem.devices[on]!.id === problem.devices[source]!.id ? [d] : []
  )
  const throughput = problem.objective === 'throughput'
  const b = throughput ? Math.ceil(batch / microBatches) : 1
  const cost: string[] = []
  const device: string[][] = problem.devices.map(() => [])
  const link = new Map<string, string[]>()
  const busyOn = (from: number, to: number, busy: number, name: string): void => {
    const key = `${from} ${to}`
    link.set(key, [...(link.get(key) ?? []), term(microBatches * busy, name)])
  }
  const rows: string[] = []
  const binaries: string[] = []
  const entries: string[][] = Array.from({ length: places }, () => [])
  const turnOf = (place: number) => problem.devices[deviceOf[place]!]!.turnMs ?? 0
  for (let i = 0; i < layers; i++) {
    const all = Array.from({ length: places }, (_, d) => `y${i}_${d}`)
    binaries.push(...all)
    rows.push(`${all.map(name => `+ ${name}`).join(' ')} = 1`)
    all.forEach((name, d) => {
      const ms = layerMs(problem, deviceOf[d]!, i, b)
      if (ms === 0) return
      cost.push(term(ms, name))
      device[deviceOf[d]!]!.push(term(microBatches * ms, name))
    })
  }
  const pinned = Math.min(layers, problem.privacy === 'embedding' ? 1 : 2)
  rows.push(`y0_${source} = 1`)
  for (let i = 1; i < pinned; i++) rows.push(`${own.map(d => `+ y${i}_${d}`).join(' ')} = 1`)
  if (problem.privacy === 'sealed' && layers > pinned) {
    rows.push(`${own.map(d => `+ y${layers - 1}_${d}`).join(' ')} = 1`)
  }
  for (let i = 0; i + 1 < layers; i++) {
    const into: string[][] = Array.from({ length: places }, () => [])
    for (let j = 0; j < places; j++) {
      const out: string[] = []
      for (let k = 0; k < places; k++) {
        const allowed = j === k || (k !== source && j !== tail && !(j === source && k === tail))
        if (!allowed) continue
        const name = `z${i}_${j}_${k}`
        out.push(`+ ${name}`)
        into[k]!.push(`+ ${name}`)
        if (j === k) continue
        entries[k]!.push(`+ ${name}`)
        const { busy, all } = hop(problem, deviceOf[j]!, deviceOf[k]!, i, b)
        // A stage that is entered has its turn.
        cost.push(term(all + turnOf(k), name))
        device[deviceOf[k]!]!.push(term(microBatches * turnOf(k), name))
        busyOn(deviceOf[j]!, deviceOf[k]!, busy, name)
      }
      rows.push(`${out.join(' ')} - y${i}_${j} = 0`)
    }
    into.forEach((names, k) => {
      rows.push(names.length > 0 ? `${names.join(' ')} - y${i + 1}_${k} = 0` : `y${i + 1}_${k} = 0`)
    })
  }
  for (let d = 0; d < tail; d++) {
    if (d === source) continue
    if (entries[d]!.length > 0) rows.push(`${entries[d]!.join(' ')} <= 1`)
    // The token of its other processors is there already.
    if (own.includes(d)) continue
    const { busy, all } = hop(problem, d, source, layers - 1, b)
    cost.push(term(all, `y${layers - 1}_${d}`))
    busyOn(d, source, busy, `y${layers - 1}_${d}`)
  }
  problem.devices.forEach(({ memoryBytes }, at) => {
    const held = deviceOf.flatMap((on, d) =>
      on === at
        ? problem.layers.map((layer, i) =>
            term(
              layer.weightBytes +
                (layer.kvBytesPerToken * problem.workload.contextTokens + layer.stateBytes) * batch,
              `y${i}_${d}`
            )
          )
        : []
    )
    rows.push(`${held.join(' ')} <= ${memoryBytes}`)
  })
  // The source's first stage has one, whatever comes behind it.
  rows.push(`${cost.join(' ')} - V <= ${-turnOf(source)}`)
  if (belowMs !== undefined) rows.push(`V <= ${belowMs}`)
  if (throughput) {
    device.forEach((terms, at) => {
      const first = at === source ? microBatches * turnOf(source) : 0
      if (terms.length > 0) rows.push(`${terms.join(' ')} - V <= ${-first}`)
    })
    for (const terms of link.values()) if (terms.length > 0) rows.push(`${terms.join(' ')} - V <= 0`)
  }
  const constraints = rows.map((row, n) => ` c${n}: ${row}`).join('\n')
  return `Minimize\n obj: V\nSubject To\n${constraints}\nBinary\n ${binaries.join('\n ')}\nEnd\n`
}
