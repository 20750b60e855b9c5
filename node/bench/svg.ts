/** Charts of figures: bars in groups, or lines over a sweep. A figure that is missing says so at its place. */
import { at, escapeXml } from '../plan/svg-text.ts'

const WIDTH = 760
const HEIGHT = 340
const LEFT = 64
const RIGHT = 24
const TOP = 48
const BOTTOM = 44
const LEGEND_ROW = 18
const MARKER = 3.5
/** Colours of series in their order; told apart by readers who see few colours too. */
const SERIES = ['#2f6f9f', '#d08a2c', '#4f9a6b', '#a4558d', '#7d8894', '#b5483c']
const COLOURS = { ink: '#1c2733', quiet: '#6b7785', rule: '#d9dfe5' }

export interface Chart {
  title: string
  /** What the vertical axis counts, with its unit. */
  unit: string
}

export interface BarChart extends Chart {
  groups: readonly string[]
  /** A value a group; null where there is none. */
  series: readonly { name: string; values: readonly (number | null)[] }[]
}

export interface LineChart extends Chart {
  /** What the horizontal axis counts, with its unit. */
  over: string
  /** Values in the order of the axis; spaced evenly, as sweeps go by factors. */
  at: readonly (number | string)[]
  series: readonly { name: string; values: readonly (number | null)[] }[]
}

export function barChart({ groups, series, ...chart }: BarChart): string {
  const top = axisTop(series)
  const groupWidth = (WIDTH - LEFT - RIGHT) / groups.length
  const width = (groupWidth * 0.8) / series.length
  const marks = groups.flatMap((group, g) => {
    const x0 = LEFT + groupWidth * (g + 0.1)
    const bars = series.map(({ name, values }, s) => {
      const value = values[g] ?? null
      const x = x0 + s * width
      if (value === null) return text(x + width / 2, baseline() - 4, 'none', 'quiet middle')
      const y = yOf(value, top)
      const rect = `<rect x="${at(x + 1)}" y="${at(y)}" width="${at(Math.max(1, width - 2))}" height="${at(baseline() - y)}" fill="${colour(s)}">`
      const label = text(x + width / 2, y - 4, figure(value), 'quiet middle')
      return `${rect}<title>${escapeXml(`${group}, ${name}: ${figure(value)}`)}</title></rect>${label}`
    })
    return [...bars, text(x0 + groupWidth * 0.4, baseline() + 16, group, 'middle')]
  })
  return page(
    chart,
    top,
    series.map(({ name }) => name),
    marks
  )
}

export function lineChart({ over, at: places, series, ...chart }: LineChart): string {
  const top = axisTop(series)
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, places.length)
  const xOf = (i: number) => LEFT + step * (i + 0.5)
  const marks = series.flatMap(({ name, values }, s) => {
    const points = values.flatMap((value, i) =>
      value === null ? [] : [{ x: xOf(i), y: yOf(value, top), value, i }]
    )
    const line = points.map(({ x, y }) => `${at(x)},${at(y)}`).join(' ')
    return [
      `<polyline points="${line}" fill="none" stroke="${colour(s)}" stroke-width="2"/>`,
      ...points.map(
        ({ x, y, value, i }) =>
          `<circle cx="${at(x)}" cy="${at(y)}" r="${MARKER}" fill="${colour(s)}">` +
          `<title>${escapeXml(`${name} at ${places[i]}: ${figure(value)}`)}</title></circle>`
      )
    ]
  })
  const labels = places.map((place, i) => text(xOf(i), baseline() + 16, `${place}`, 'middle'))
  const axis = text((LEFT + WIDTH - RIGHT) / 2, baseline() + 34, over, 'quiet middle')
  return page(
    chart,
    top,
    series.map(({ name }) => name),
    [...marks, ...labels, axis]
  )
}

function page(
  { title, unit }: Chart,
  top: number,
  names: readonly string[],
  marks: readonly string[]
): string {
  const height = HEIGHT + LEGEND_ROW * Math.ceil(names.length / 3)
  const rules = [0, 0.25, 0.5, 0.75, 1].flatMap(share => {
    const y = yOf(share * top, top)
    const line = `<line x1="${LEFT}" y1="${at(y)}" x2="${WIDTH - RIGHT}" y2="${at(y)}" stroke="${COLOURS.rule}"/>`
    return [line, text(LEFT - 8, y + 4, figure(share * top), 'quiet end')]
  })
  const legend = names.map((name, s) => {
    const x = LEFT + (s % 3) * ((WIDTH - LEFT - RIGHT) / 3)
    const y = HEIGHT + LEGEND_ROW * Math.floor(s / 3)
    const box = `<rect x="${at(x)}" y="${at(y - 9)}" width="10" height="10" fill="${colour(s)}"/>`
    return box + text(x + 16, y, name, '')
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>text{fill:${COLOURS.ink}}.quiet{fill:${COLOURS.quiet};font-size:11px}.middle{text-anchor:middle}` +
      '.end{text-anchor:end}.title{font-size:16px}</style>',
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(24, 24, title, 'title'),
    text(24, 40, unit, 'quiet'),
    ...rules,
    ...marks,
    ...legend,
    '</svg>',
    ''
  ].join('\n')
}

/** Top of the vertical axis: a round number that no value is above. */
function axisTop(series: readonly { values: readonly (number | null)[] }[]): number {
  const highest = Math.max(0, ...series.flatMap(({ values }) => values.filter(value => value !== null)))
  if (highest === 0) return 1
  const power = 10 ** Math.floor(Math.log10(highest))
  return power * ([1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find(step => step * power >= highest) ?? 10)
}

function baseline(): number {
  return HEIGHT - BOTTOM
}

function yOf(value: number, top: number): number {
  return baseline() - (value / top) * (HEIGHT - TOP - BOTTOM)
}

function colour(series: number): string {
  return SERIES[series % SERIES.length]!
}

/** Three digits: a measurement is no better. */
function figure(value: number): string {
  return value >= 100 ? value.toFixed(0) : `${Number(value.toPrecision(3))}`
}

function text(x: number, y: number, content: string, kind: string): string {
  return `<text x="${at(x)}" y="${at(y)}" class="${kind}">${escapeXml(content)}</text>`
}
