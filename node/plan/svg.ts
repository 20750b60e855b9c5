/** A plan as a picture: stages on a time line of one step, transfers between, devices left out below. */

import { placeName } from '../place-name.ts'
import { formatBytes, formatMbps, formatMs } from '../units.ts'
import { linkBetween, occupiedMs, segmentBytes, stageMs, transferBytes, transfersOf } from './cost.ts'
import type { Plan, Problem } from './problem.ts'
import { at, escapeXml } from './svg-text.ts'
import { toSegments } from './to-plan.ts'

const WIDTH = 960
const MARGIN = 24
const LABEL_WIDTH = 190
const ROW_HEIGHT = 46
const BOX_HEIGHT = 26
const HEAD_HEIGHT = 64
const MIN_BOX = 2

const COLOURS = { ink: '#1c2733', quiet: '#6b7785', compute: '#2f6f9f', link: '#d08a2c', rule: '#d9dfe5' }

/** Rows are devices in the order of the pipeline, the horizontal axis is the time of one decode step. */
export function renderSvg(problem: Problem, plan: Plan): string {
  const segments = toSegments(problem, plan.stages)
  const b = plan.objective === 'throughput' ? Math.ceil(plan.batch / plan.microBatches) : 1
  const transfers = transfersOf(problem, segments)
  const hopsMs = transfers.map(transfer => {
    const link = linkBetween(problem, transfer.from, transfer.to)
    return occupiedMs(link, transferBytes(problem, transfer, b)) + link.delayMs
  })
  const computeMs = segments.map(segment => stageMs(problem, segment, b))
  const totalMs = [...computeMs, ...hopsMs].reduce((sum, ms) => sum + ms, 0)
  const scale = totalMs > 0 ? (WIDTH - 2 * MARGIN - LABEL_WIDTH) / totalMs : 0
  const order = [...new Set(segments.map(({ device }) => device))]
  const rowY = (device: number): number => HEAD_HEIGHT + order.indexOf(device) * ROW_HEIGHT
  const parts: string[] = []

  for (const device of order) {
    const held = segments
      .filter(segment => segment.device === device)
      .reduce((sum, segment) => sum + segmentBytes(problem, segment, plan.batch), 0)
    const place = problem.devices[device]!
    const { memoryBytes } = place
    const y = rowY(device)
    parts.push(text(MARGIN, y + 12, placeName(place), 'name'))
    parts.push(text(MARGIN, y + 27, `${formatBytes(held)} of ${formatBytes(memoryBytes)}`, 'quiet'))
    parts.push(
      line(MARGIN + LABEL_WIDTH, y + BOX_HEIGHT / 2, WIDTH - MARGIN, y + BOX_HEIGHT / 2, COLOURS.rule)
    )
  }
  let x = MARGIN + LABEL_WIDTH
  segments.forEach((segment, n) => {
    const y = rowY(segment.device)
    const width = Math.max(MIN_BOX, computeMs[n]! * scale)
    const range = `[${segment.start}, ${segment.end})`
    parts.push(
      `<rect x="${at(x)}" y="${y}" width="${at(width)}" height="${BOX_HEIGHT}" rx="3" fill="${COLOURS.compute}">` +
        `<title>${escapeXml(`${range}: ${formatMs(computeMs[n]!)}`)}</title></rect>`
    )
    parts.push(text(x + 2, y + BOX_HEIGHT + 12, `${range} ${formatMs(computeMs[n]!)}`, 'quiet'))
    x += computeMs[n]! * scale
    const transfer = transfers[n]
    if (transfer === undefined) return
    const width2 = hopsMs[n]! * scale
    const to = rowY(transfer.to) + BOX_HEIGHT / 2
    parts.push(line(x, y + BOX_HEIGHT / 2, x + width2, to, COLOURS.link, true))
    const { mbps } = linkBetween(problem, transfer.from, transfer.to)
    const label = `${formatMbps(mbps)} Mbps ${formatMs(hopsMs[n]!)}`
    parts.push(text(x + width2 / 2 + 4, (y + BOX_HEIGHT / 2 + to) / 2 - 4, label, 'link'))
    x += width2
  })
  const leftY = HEAD_HEIGHT + order.length * ROW_HEIGHT + 14
  plan.left.forEach(({ device, processor, reason }, n) => {
    const name = placeName({ id: device, processor })
    parts.push(text(MARGIN, leftY + 16 * n, `${name}: ${reason}`, 'quiet'))
  })
  const height = leftY + 16 * plan.left.length + MARGIN
  const title = `${plan.method}, ${plan.objective}: ${formatMs(totalMs)} a step, ${plan.predicted.tokensPerSecond.toFixed(2)} tokens/s`
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<style>.name{font-weight:bold;fill:${COLOURS.ink}}.quiet{fill:${COLOURS.quiet};font-size:11px}` +
      `.link{fill:${COLOURS.link};font-size:11px}.title{font-size:16px;fill:${COLOURS.ink}}</style>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">' +
      `<path d="M0 0 L8 4 L0 8 z" fill="${COLOURS.link}"/></marker></defs>`,
    text(MARGIN, 32, title, 'title'),
    ...parts,
    '</svg>',
    ''
  ].join('\n')
}

function text(x: number, y: number, content: string, kind: string): string {
  return `<text x="${at(x)}" y="${at(y)}" class="${kind}">${escapeXml(content)}</text>`
}

function line(x1: number, y1: number, x2: number, y2: number, colour: string, tip = false): string {
  const end = tip ? ' marker-end="url(#tip)" stroke-width="1.5"' : ''
  return `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" stroke="${colour}"${end}/>`
}
