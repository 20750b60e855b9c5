/** Plans as people read them: tables and a picture of the pipeline in text. */
import Table from 'cli-table3'
import { formatBytes, formatMbps, formatMs } from '../units.ts'
import { linkBetween, occupiedMs, segmentBytes, segmentDecodeMs, transferBytes, transfersOf } from './cost.ts'
import { figure } from './explain.ts'
import type { Plan, Problem, Refusal } from './problem.ts'
import type { Compared, SimulationReport } from './simulation-report.ts'
import { toSegments } from './to-plan.ts'

const BAR_WIDTH = 24
const MAX_STAGES_IN_LINE = 6

/** A plan with its picture, what binds it and why other devices are left out. */
export function renderPlan(problem: Problem, plan: Plan): string {
  const { predicted } = plan
  const lines = [
    `${plan.method}, ${plan.objective}: ${verdict(plan)}, planned in ${formatMs(plan.solveMs)}`,
    '',
    ...pipeline(problem, plan),
    '',
    `  time per token ${formatMs(predicted.tpotMs)}, to the first ${formatMs(predicted.ttftMs)}, ` +
      `request ${formatMs(predicted.requestMs)} (one sequence)`,
    `  ${rate(predicted.tokensPerSecond)} with batch ${plan.batch} in ${count(plan.microBatches, 'micro-batch', 'micro-batches')} ` +
      `(${rate(predicted.bubbleTokensPerSecond)} with bubbles)`
  ]
  if (predicted.speculatedTpotMs !== undefined)
    lines.push(speculatedLine(problem, predicted.speculatedTpotMs))
  if (plan.binds !== undefined && plan.binds.length > 0) {
    lines.push('', 'What binds it', ...plan.binds.map(line => `  ${line}`))
  }
  if (plan.advice !== undefined) lines.push('', `What would help most: ${plan.advice}`)
  if (plan.left.length > 0) {
    lines.push('', 'Not used', ...plan.left.map(({ device, reason }) => `  ${device}: ${reason}`))
  }
  return `${lines.join('\n')}\n`
}

function speculatedLine({ workload: { speculation } }: Problem, tpotMs: number): string {
  const { acceptance, window } = speculation!
  return `  time per token ${formatMs(tpotMs)} with a window of ${window} guesses of which ${percent(acceptance)} are right`
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

/** One line a stage with a bar for its share of the step, one line a transfer between. */
function pipeline(problem: Problem, plan: Plan): string[] {
  const segments = toSegments(problem, plan.stages)
  const b = plan.objective === 'throughput' ? Math.ceil(plan.batch / plan.microBatches) : 1
  const transfers = transfersOf(problem, segments)
  const idWidth = Math.max(...plan.stages.map(({ device }) => device.length))
  const total = segments.reduce((sum, segment) => sum + segmentDecodeMs(problem, segment, b), 0)
  return segments.flatMap((segment, n) => {
    const device = problem.devices[segment.device]!
    const ms = segmentDecodeMs(problem, segment, b)
    const bar = '#'.repeat(total > 0 ? Math.round((BAR_WIDTH * ms) / total) : 0).padEnd(BAR_WIDTH)
    const held = segments
      .filter(other => other.device === segment.device)
      .reduce((sum, other) => sum + segmentBytes(problem, other, plan.batch), 0)
    const memory = `${formatBytes(held)} of ${formatBytes(device.memoryBytes)}`
    const layers = `[${segment.start}, ${segment.end})`.padEnd(12)
    const stage = `  ${device.id.padEnd(idWidth)}  ${layers} ${formatMs(ms).padStart(10)}  |${bar}|  ${memory}`
    const transfer = transfers[n]
    if (transfer === undefined) return [stage]
    const link = linkBetween(problem, transfer.from, transfer.to)
    const hopMs = occupiedMs(link, transferBytes(problem, transfer, b)) + link.delayMs
    const what = transfer.returns ? `token back to ${problem.devices[problem.source]!.id}` : 'hidden states'
    return [stage, `  ${' '.repeat(idWidth)}  v ${what}, ${formatMbps(link.mbps)} Mbps: ${formatMs(hopMs)}`]
  })
}

const BARE = {
  chars: {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: '  '
  },
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 }
}

/** All methods in one table. */
export function renderComparison(problem: Problem, results: readonly (Plan | Refusal)[]): string {
  const figures = problem.objective === 'throughput' ? 'tokens/s' : `${problem.metric} ms`
  const table = new Table({ ...BARE, head: ['method', figures, 'gap', '', 'batch', 'stages'] })
  for (const result of results) {
    if (!result.feasible) {
      table.push([result.method, '-', '', '', '', result.reason])
      continue
    }
    const { predicted } = result
    const value =
      problem.objective === 'throughput'
        ? predicted.tokensPerSecond
        : problem.metric === 'tpot'
          ? predicted.tpotMs
          : predicted.requestMs
    table.push([
      result.method,
      value.toFixed(problem.objective === 'throughput' ? 2 : 1),
      result.gap === 0 ? '0' : `${(100 * result.gap).toFixed(2)} %`,
      result.optimal ? 'optimal' : '',
      `${result.batch}/${result.microBatches}`,
      stagesInLine(result.stages)
    ])
  }
  const best = results.find(result => result.feasible && result.method === 'edgeshard')
  const bound = best?.feasible ? `\nNo plan is better than ${figure(problem, best.lowerBoundMs)}.\n` : ''
  return `${trimEnds(table.toString())}\n${bound}`
}

/** Predicted beside observed for both strategies, and how busy everything was. */
export function renderSimulation(report: SimulationReport): string {
  const table = new Table({ ...BARE, head: ['', 'no bubbles', '', 'bubbles', ''] })
  table.push(['', 'predicted', 'observed', 'predicted', 'observed'])
  const both = (name: string, read: (compared: Compared) => [string, string]): void => {
    table.push([name, ...read(report.noBubble), ...read(report.bubble)])
  }
  both('tokens/s, steady', ({ predicted, observed }) => [
    predicted.tokensPerSecond.toFixed(2),
    observed.steadyTokensPerSecond.toFixed(2)
  ])
  both('tokens/s, whole run', ({ observed }) => ['', observed.tokensPerSecond.toFixed(2)])
  both('tpot', ({ predicted, observed }) => [formatMs(predicted.tpotMs), formatMs(observed.tpotMs)])
  if (report.speculation !== undefined) {
    const { predicted, observed } = report.speculation
    table.push(['tpot, speculating', formatMs(predicted.tpotMs), formatMs(observed.tpotMs), '', ''])
  }
  both('ttft', ({ observed }) => [formatMs(report.predicted.ttftMs), formatMs(observed.ttftMs)])
  both('request', ({ observed }) => [formatMs(report.predicted.requestMs), formatMs(observed.requestMs)])
  const busy = new Table({ ...BARE, head: ['busy', 'no bubbles', 'bubbles'] })
  report.noBubble.observed.busy.forEach(({ resource, share }, n) => {
    busy.push([resource, percent(share), percent(report.bubble.observed.busy[n]!.share)])
  })
  const head = `${report.method}, ${report.objective}, batch ${report.batch} in ${report.microBatches}: `
  return (
    `${head}${stagesInLine(report.stages)}\n\n${trimEnds(table.toString())}\n\n` +
    `ttft and request are predicted for one sequence alone.\n\n${trimEnds(busy.toString())}\n`
  )
}

/** `a [0, 1) > b [1, 34)`, long pipelines by their ends. */
function stagesInLine(stages: Plan['stages']): string {
  const texts = stages.map(({ device, layers: [start, end] }) => `${device} [${start}, ${end})`)
  if (texts.length <= MAX_STAGES_IN_LINE) return texts.join(' > ')
  return `${texts.slice(0, 2).join(' > ')} > ${texts.length - 3} more > ${texts.at(-1)}`
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}

function trimEnds(text: string): string {
  return text.replace(/[ \t]+$/gm, '')
}
