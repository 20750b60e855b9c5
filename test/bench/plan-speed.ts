/**
 * Times the planner on seeded instances: `node test/bench/plan-speed.ts [cases] [--curves]`.
 *
 * Prints median and worst of each family, and with --curves how time grows with devices and with layers. Times
 * are processor time of this process, and budgets are kept in it: other work on the machine does not count.
 */

import { parseScenario, plan } from '../../node/plan/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { type InstanceOptions, instance } from './plan-instances.ts'

const { values, positionals } = commandOptions(import.meta.url, {
  options: { curves: { type: 'boolean', default: false } },
  allowPositionals: true
})
const cases = Number(positionals[0] ?? 30)
const { curves } = values
const now = (): number => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

interface Result {
  readonly ms: number
  readonly gap: number
  readonly feasible: boolean
  readonly optimal: boolean
}

function time(seed: number, options: InstanceOptions, budgetMs: number): Result {
  const problem = parseScenario(instance(seed, options))
  const startMs = now()
  const result = plan(problem, { now, budgetMs, explain: false })
  const ms = now() - startMs
  if (!result.feasible) return { ms, gap: Number.NaN, feasible: false, optimal: false }
  return { ms, gap: result.gap, feasible: true, optimal: result.optimal }
}

function report(name: string, options: InstanceOptions, count: number, budgetMs = 60_000): void {
  const results = Array.from({ length: count }, (_, at) => time(at + 1, options, budgetMs))
  const planned = results.filter(({ feasible }) => feasible)
  const times = results.map(({ ms }) => ms).sort((a, b) => a - b)
  const gaps = planned.map(({ gap }) => gap).sort((a, b) => a - b)
  const ms = (value: number | undefined): string => `${(value ?? Number.NaN).toFixed(0).padStart(6)} ms`
  const percent = (value: number | undefined): string => `${(100 * (value ?? Number.NaN)).toFixed(2)} %`
  console.log(
    `${name.padEnd(44)} median ${ms(times[times.length >> 1])}  worst ${ms(times.at(-1))}  ` +
      `optimal ${planned.filter(({ optimal }) => optimal).length}/${planned.length} of ${count}  ` +
      `gap median ${percent(gaps[gaps.length >> 1])} worst ${percent(gaps.at(-1))}`
  )
}

/** The first plan compiles everything: not counted. */
time(1, { devices: 8, layers: 34 }, 60_000)

report('16 devices x 82 layers, latency', { devices: 16, layers: 82 }, cases)
report('16 devices x 82 layers, latency, two kinds', { devices: 16, layers: 82, mixed: true }, cases)
report('12 devices x 82 layers, throughput, 8 modes', modes(12, 82), cases)
report('64 devices x 128 layers, latency, 2 s', { devices: 64, layers: 128 }, Math.ceil(cases / 3), 2000)
report('64 devices x 128 layers, throughput, 2 s', modes(64, 128), Math.ceil(cases / 3), 2000)
report('128 devices x 80 layers, latency, 2 s', { devices: 128, layers: 80 }, Math.ceil(cases / 3), 2000)
report('128 devices x 80 layers, throughput, 2 s', modes(128, 80), Math.ceil(cases / 3), 2000)

if (curves) {
  for (const devices of [4, 8, 12, 16, 24, 32, 48, 64]) {
    report(`latency, ${devices} devices x 82 layers`, { devices, layers: 82 }, 10, 10_000)
  }
  for (const layers of [18, 34, 82, 128, 256, 512]) {
    report(`latency, 16 devices x ${layers} layers`, { devices: 16, layers }, 10, 10_000)
  }
}

/** A batch of 20 can be cut into micro-batches of 20, 10, 7, 5, 4, 3, 2 and 1. */
function modes(devices: number, layers: number): InstanceOptions {
  return { devices, layers, objective: 'throughput', batch: 20 }
}
