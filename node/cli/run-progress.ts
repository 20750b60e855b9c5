import Table from 'cli-table3'
import type { GenerateEvent, GenerateResult } from '../api.ts'
import { formatMs } from '../units.ts'
import { clean } from './format.ts'
import { type ProgressBar, progressBar } from './progress.ts'

type ProgressEvent = Extract<GenerateEvent, { type: 'progress' }>

const TITLES = { plan: 'planning', weights: 'fetching weights', load: 'loading' } as const

/** Progress of several devices at once as one bar a phase. */
export class RunProgress {
  #bar: ProgressBar | null = null
  #phase = ''
  #peers = new Map<string, { done: number; total: number }>()

  show({ phase, peer, done, total }: ProgressEvent): void {
    if (phase !== this.#phase) {
      this.stop()
      this.#phase = phase
      this.#bar = progressBar(TITLES[phase], '%')
    }
    this.#peers.set(peer, { done, total: Math.max(total, 1) })
    const shares = [...this.#peers.values()].map(({ done, total }) => done / total)
    const share = shares.reduce((sum, one) => sum + one, 0) / shares.length
    this.#bar?.update(Math.round(100 * share), 100)
  }

  stop(): void {
    this.#bar?.stop()
    this.#bar = null
    this.#phase = ''
    this.#peers.clear()
  }
}

/** `desk [0, 5) -> laptop [5, 10)`. */
export function planLine(plan: GenerateResult['plan']): string {
  return plan.stages.map(({ name, layers: [start, end] }) => `${clean(name)} [${start}, ${end})`).join(' -> ')
}

/** Tokens and times of an answer, beside what the plan predicted. */
export function figuresLine(result: GenerateResult): string {
  const { promptTokens, tokens, ttftMs, tpotMs, predicted, finishReason, recoveries, guesses, exact } = result
  return [
    `${promptTokens} prompt tokens, ${tokens.length} new (${finishReason})`,
    `first token ${formatMs(ttftMs)} (predicted ${formatMs(predicted.ttftMs)})`,
    `then ${formatMs(tpotMs)} a token (predicted ${formatMs(predicted.tpotMs)})`,
    ...(guesses === undefined ? [] : [`${guesses.held} of ${guesses.sent} guesses held`]),
    ...(recoveries > 0 ? [`${recoveries} stages replaced on the way`] : []),
    ...(exact === undefined ? [] : [exact ? 'exact' : 'not exact: the kernels of a device do not keep bits'])
  ].join('; ')
}

/** Each stage and hop of a decode step, predicted beside measured; empty where no step was measured. */
export function stepTable({ plan, predicted, measured }: GenerateResult): string {
  if (measured.steps === 0) return ''
  const table = new Table({
    head: ['a decode step', 'predicted', 'measured'],
    colAligns: ['left', 'right', 'right'],
    style: { head: [], border: [] }
  })
  const ms = (value: number | undefined) => (value === undefined ? '' : `${value.toFixed(2)} ms`)
  // After a recovery the prediction is of another plan.
  const same = predicted.stages.length === plan.stages.length
  plan.stages.forEach(({ name, layers: [start, end] }, i) => {
    const { computeMs, waitMs } = measured.stages[i]!
    const stage = `${clean(name)} [${start}, ${end})`
    table.push([`compute ${stage}`, ms(same ? predicted.stages[i]!.computeMs : undefined), ms(computeMs)])
    table.push(['  its thread and turn', '', ms(waitMs)])
    const linkMs = measured.linksMs[i]
    if (linkMs === undefined) return
    const to = plan.stages[i + 1]?.name ?? plan.stages[0]!.name
    table.push([`link to ${clean(to)}`, ms(same ? predicted.linksMs[i] : undefined), ms(linkMs)])
  })
  return table.toString()
}
