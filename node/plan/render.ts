/** Plans as people read them: tables and a picture of the pipeline in text. */

import { placeName } from '../place-name.ts'
import { fitted, tableText } from '../table.ts'
import { formatBytes, formatMbps, formatMs } from '../units.ts'
import { linkBetween, occupiedMs, segmentBytes, stageMs, transferBytes, transfersOf } from './cost.ts'
import { figure } from './explain.ts'
import type { Plan, Problem, Refusal, StagePlan } from './problem.ts'
import type { Compared, SimulationReport } from './simulation-report.ts'
import { toSegments } from './to-plan.ts'

const BAR_WIDTH = 24
/** Less of a bar says nothing. */
const SHORTEST_BAR = 6
const MAX_STAGES_IN_LINE = 6

/**
 * A plan with its picture, what binds it and why other devices are left out.
 *
 * @param columns of the terminal; undefined: there is none, so that nothing has to fit; so below
 */
export function renderPlan(problem: Problem, plan: Plan, columns?: number): string {
  const { predicted } = plan
  const lines = [
    `${plan.method}, ${plan.objective}: ${verdict(plan)}, planned in ${formatMs(plan.solveMs)}`,
    '',
    ...pipeline(problem, plan, columns),
    '',
    `  time per token ${formatMs(predicted.tpotMs)}, to the first ${formatMs(predicted.ttftMs)}, ` +
      `request ${formatMs(predicted.requestMs)} (one sequence)`,
    `  ${rate(predicted.tokensPerSecond)} with batch ${plan.batch} in ${count(plan.microBatches, 'micro-batch', 'micro-batches')} ` +
      `(${rate(predicted.bubbleTokensPerSecond)} with bubbles)`
  ]
  if (predicted.speculatedTpotMs !== undefined)
    lines.push(speculatedLine(problem, predicted.speculatedTpotMs))
  if (plan.binds !== undefined && plan.binds.length > 0) {
    lines.push('', 'What holds it up', ...plan.binds.map(line => `  ${line}`))
  }
  if (plan.advice !== undefined) lines.push('', `What would help most: ${plan.advice}`)
  if (plan.left.length > 0) {
    lines.push('', 'Not used', ...plan.left.map(left => `  ${nameOf(left)}: ${left.reason}`))
  }
  return fitted(`${lines.join('\n')}\n`, columns)
}

function speculatedLine({ workload: { speculation } }: Problem, tpotMs: number): string {
  const { acceptance, window } = speculation!
  const guesses = window === undefined ? 'guesses' : `a window of ${window} guesses`
  return `  time per token ${formatMs(tpotMs)} with ${guesses} of which ${percent(acceptance)} are right`
}

function verdict(plan: Plan): string {
  if (plan.optimal) return 'optimal, gap 0'
  return `within ${(100 * plan.gap).toFixed(2)} % of the bound`
}

function rate(tokensPerSecond: number): string {
  return `${tokensPerSecond.toFixed(2)} tokens/s`
}

function count(value: number, one: string, many: string): string {
  return `${value} ${value === 1 ? one : many}`
}

/** One line a stage with a bar for its share of the step, where there is room for one, one line a transfer between. */
function pipeline(problem: Problem, plan: Plan, columns: number | undefined): string[] {
  const segments = toSegments(problem, plan.stages)
  const b = plan.objective === 'throughput' ? Math.ceil(plan.batch / plan.microBatches) : 1
  const transfers = transfersOf(problem, segments)
  const idWidth = Math.max(...plan.stages.map(stage => nameOf(stage).length))
  const total = segments.reduce((sum, segment) => sum + stageMs(problem, segment, b), 0)
  const stages = segments.map(segment => {
    const device = problem.devices[segment.device]!
    const ms = stageMs(problem, segment, b)
    const held = segments
      .filter(other => other.device === segment.device)
      .reduce((sum, other) => sum + segmentBytes(problem, other, plan.batch), 0)
    const memory = `${formatBytes(held)} of ${formatBytes(device.memoryBytes)}`
    const head = `  ${placeName(device).padEnd(idWidth)}  ${`[${segment.start}, ${segment.end})`.padEnd(12)}`
    return { head, ms, memory, share: total > 0 ? ms / total : 0 }
  })
  const widest = Math.max(...stages.map(({ head, memory }) => head.length + memory.length)) + 17
  const barWidth = Math.max(0, Math.min(BAR_WIDTH, (columns ?? Number.POSITIVE_INFINITY) - widest))
  return stages.flatMap(({ head, ms, memory, share }, n) => {
    const bar = '#'.repeat(Math.round(barWidth * share)).padEnd(barWidth)
    const stage =
      barWidth < SHORTEST_BAR
        ? [head.trimEnd(), `    ${formatMs(ms)}, ${memory}`]
        : [`${head} ${formatMs(ms).padStart(10)}  |${bar}|  ${memory}`]
    const transfer = transfers[n]
    if (transfer === undefined) return stage
    const link = linkBetween(problem, transfer.from, transfer.to)
    const hopMs = occupiedMs(link, transferBytes(problem, transfer, b)) + link.delayMs
    const what = transfer.returns ? `token back to ${problem.devices[problem.source]!.id}` : 'hidden states'
    const indent = ' '.repeat(barWidth < SHORTEST_BAR ? 4 : idWidth + 4)
    return [...stage, `${indent}v ${what}, ${formatMbps(link.mbps)} Mbps: ${formatMs(hopMs)}`]
  })
}

/** All methods in one table. */
export function renderComparison(
  problem: Problem,
  results: readonly (Plan | Refusal)[],
  columns?: number
): string {
  const figures = problem.objective === 'throughput' ? 'tokens/s' : `${problem.metric} ms`
  const rows = results.map(result => {
    if (!result.feasible) return [result.method, '-', '', '', '', result.reason]
    const { predicted } = result
    const value =
      problem.objective === 'throughput'
        ? predicted.tokensPerSecond
        : problem.metric === 'tpot'
          ? predicted.tpotMs
          : predicted.requestMs
    return [
      result.method,
      value.toFixed(problem.objective === 'throughput' ? 2 : 1),
      result.gap === 0 ? '0' : `${(100 * result.gap).toFixed(2)} %`,
      result.optimal ? 'optimal' : '',
      `${result.batch}/${result.microBatches}`,
      stagesInLine(result.stages)
    ]
  })
  const best = results.find(result => result.feasible && result.method === 'edgeshard')
  const bound = best?.feasible ? `\nNo plan is better than ${figure(problem, best.lowerBoundMs)}.\n` : ''
  const head = ['method', figures, 'gap', '', 'batch', 'stages']
  return `${tableText(head, rows, columns, { bare: true })}\n${fitted(bound, columns)}`
}

/** Predicted beside observed for both strategies, and how busy everything was. */
export function renderSimulation(report: SimulationReport, columns?: number): string {
  const rows: string[][] = []
  const both = (name: string, read: (compared: Compared) => [string, string]): void => {
    rows.push([name, ...read(report.noBubble), ...read(report.bubble)])
  }
  both('tokens/s, steady', ({ predicted, observed }) => [
    predicted.tokensPerSecond.toFixed(2),
    observed.steadyTokensPerSecond.toFixed(2)
  ])
  both('tokens/s, whole run', ({ observed }) => ['', observed.tokensPerSecond.toFixed(2)])
  both('tpot', ({ predicted, observed }) => [formatMs(predicted.tpotMs), formatMs(observed.tpotMs)])
  if (report.speculation !== undefined) {
    const { predicted, observed } = report.speculation
    rows.push(['tpot, speculating', formatMs(predicted.tpotMs), formatMs(observed.tpotMs), '', ''])
  }
  both('ttft', ({ observed }) => [formatMs(report.predicted.ttftMs), formatMs(observed.ttftMs)])
  both('request', ({ observed }) => [formatMs(report.predicted.requestMs), formatMs(observed.requestMs)])
  const busy = report.noBubble.observed.busy.map(({ resource, share }, n) => [
    resource,
    percent(share),
    percent(report.bubble.observed.busy[n]!.share)
  ])
  const head = ['', 'no bubbles\npredicted', '\nobserved', 'bubbles\npredicted', '\nobserved']
  const bare = (of: string[], cells: string[][]) => tableText(of, cells, columns, { bare: true })
  const text =
    `${report.method}, ${report.objective}, batch ${report.batch} in ${report.microBatches}: ` +
    `${stagesInLine(report.stages)}\n\n${bare(head, rows)}\n\n` +
    `ttft and request are predicted for one sequence alone.\n\n${bare(['busy', 'no bubbles', 'bubbles'], busy)}\n`
  return fitted(text, columns)
}

/** `a [0, 1) > b [1, 34)`, long pipelines by their ends. */
function stagesInLine(stages: Plan['stages']): string {
  const texts = stages.map(stage => `${nameOf(stage)} [${stage.layers[0]}, ${stage.layers[1]})`)
  if (texts.length <= MAX_STAGES_IN_LINE) return texts.join(' > ')
  return `${texts.slice(0, 2).join(' > ')} > ${texts.length - 3} more > ${texts.at(-1)}`
}

/** A place of a result. */
function nameOf({ device, processor }: Pick<StagePlan, 'device' | 'processor'>): string {
  return placeName({ id: device, processor })
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
