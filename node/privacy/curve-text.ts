import { fitted, tableText } from '../table.ts'
import { formatMs } from '../units.ts'
import type { CurveRow } from './curve.ts'
import type { PrivacyReport } from './measure.ts'

const BAR_WIDTH = 16

/**
 * The curve for a terminal: how much is told and what it costs, as bars of the same length at most, a line for each number of
 * layers.
 *
 * @param columns of the terminal; undefined: there is none
 */
export function renderCurve(
  model: string,
  { fitTokens, testTokens }: Pick<PrivacyReport, 'fitTokens' | 'testTokens'>,
  rows: readonly CurveRow[],
  columns?: number
): string {
  const open = rows.filter(({ sealed }) => !sealed)
  const decoderLayers = open.at(-1)!.layersAtSource
  const slowest = Math.max(...rows.map(({ tpotMs }) => tpotMs ?? 0))
  const cost = (row: CurveRow | undefined) =>
    row === undefined ? '' : row.tpotMs === null ? 'fits nowhere' : formatMs(row.tpotMs)
  const cells = open.map(row => {
    const sealed = rows.find(other => other.sealed && other.layersAtSource === row.layersAtSource)
    return [
      row.layersAtSource === 0 ? 'embedding' : `${row.layersAtSource} of ${decoderLayers}`,
      percent(row.recoveredNearest),
      `${bar(row.recoveredInverter)} ${percent(row.recoveredInverter)}`,
      row.tpotMs === null ? cost(row) : `${bar(row.tpotMs / slowest)} ${cost(row)}`,
      cost(sealed),
      isAlone(row)
        ? 'all: nobody sees anything'
        : row.plannedAtSource === null
          ? ''
          : `${row.plannedAtSource}${toldBehind(row, open)}`
    ]
  })
  const head = [
    'kept at\nleast',
    'nearest\nembedding',
    'fitted map tells of a prompt',
    'the best plan takes a token',
    'sealed',
    'and keeps,\nso tells'
  ]
  const lines = [
    `What of a prompt to ${model} the next device could tell, beside what it costs to keep more layers on the source:`,
    '',
    tableText(head, cells, columns, { bare: true }),
    '',
    `Fitted to ${fitTokens} tokens, tried on ${testTokens} of other text: a lower bound, a stronger attacker tells more. Where the best`,
    'plan keeps more layers than it has to, it tells what the last column says: the share behind as many layers, or behind the next',
    'fewer that were measured. Sealed keeps the head, too.',
    ''
  ]
  return fitted(lines.join('\n'), columns)
}

/** What a plan tells that keeps more than it has to, as far as it was measured; empty where it keeps what it has to. */
function toldBehind({ plannedAtSource, layersAtSource }: CurveRow, open: readonly CurveRow[]): string {
  if (plannedAtSource === null || plannedAtSource <= layersAtSource) return ''
  const measured = open.findLast(row => row.layersAtSource <= plannedAtSource)!
  return `, ${percent(measured.recoveredInverter)}`
}

/** The source computes everything, so that nothing is sent. */
function isAlone({ plan }: CurveRow): boolean {
  return plan.feasible && plan.stages.length === 1
}

function bar(share: number): string {
  return '#'.repeat(Math.round(BAR_WIDTH * share)).padEnd(BAR_WIDTH, '.')
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
