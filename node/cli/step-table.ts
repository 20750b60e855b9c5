import type { GenerateResult } from '../api.ts'
import { placeName } from '../place-name.ts'
import { shortNames } from '../short-names.ts'
import { tableText } from '../table.ts'

/** Each stage and hop of a decode step, predicted beside measured; empty where no step was measured. */
export function stepTable(
  { plan, predicted: first, measured, recoveries, moves, stretches }: GenerateResult,
  columns: number | undefined = process.stderr.columns
): string {
  if (measured.steps === 0) return ''
  const names = shortNames(plan.stages)
  const rows: string[][] = []
  const ms = (value: number | undefined) => (value === undefined ? '' : `${value.toFixed(2)} ms`)
  // After a loss or a move the first prediction is of another plan, though it may have as many stages.
  const isFirst = recoveries === 0 && moves === undefined
  const predicted = stretches?.at(-1)?.predicted ?? (isFirst ? first : undefined)
  const placeAt = (at: number) => {
    const { peerId, processor } = plan.stages[at] ?? plan.stages[0]!
    return placeName({ id: names.get(peerId)!, processor })
  }
  plan.stages.forEach(({ layers: [start, end] }, i) => {
    const { computeMs, waitMs } = measured.stages[i]!
    const stage = `${placeAt(i)} [${start}, ${end})`
    rows.push([`compute ${stage}`, ms(predicted?.stages[i]?.computeMs), ms(computeMs)])
    rows.push(['  its thread and turn', ms(predicted?.stages[i]?.waitMs), ms(waitMs)])
    const linkMs = measured.linksMs[i]
    if (linkMs === undefined) return
    rows.push([`link to ${placeAt(i + 1)}`, ms(predicted?.linksMs[i]), ms(linkMs)])
  })
  const head = ['a decode step', 'predicted', 'measured']
  return tableText(head, rows, columns, { align: ['left', 'right', 'right'] })
}
