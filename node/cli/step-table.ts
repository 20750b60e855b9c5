import Table from 'cli-table3'
import type { GenerateResult } from '../api.ts'
import { clean } from './format.ts'

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
