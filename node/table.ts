import Table from 'cli-table3'
import widthOf from 'string-width'

const GRAPHEMES = new Intl.Segmenter('en', { granularity: 'grapheme' })

/** A space on either side of a cell. */
const PADDING = 2
/** Blocks in less are no easier to read. */
const NARROWEST = 12

export interface TableLook {
  /** Without lines: columns and nothing else. */
  bare?: boolean
  /** The side of each column. @default all to the left */
  align?: readonly ('left' | 'right')[]
  /** The width of each column, in characters; longer cells are wrapped at words. @default as wide as the longest */
  widths?: readonly number[]
}

/**
 * Rows under a head, as wide as the terminal at most: a table where that fits, else a block for each row, with its first
 * cell on top and a line for each other one that says something. A head may have several lines.
 *
 * @param columns of the terminal; undefined: none, so that nothing has to fit
 */
export function tableText(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined,
  { bare = false, align, widths }: TableLook = {}
): string {
  const table = new Table({
    ...(bare && { chars: NO_LINES }),
    ...(align !== undefined && { colAligns: [...align] }),
    ...(widths !== undefined && { colWidths: [...widths], wordWrap: true }),
    style: { head: [], border: [], ...(bare && { 'padding-left': 0, 'padding-right': 0 }) },
    head: [...head]
  })
  const cells = (row: readonly string[]) =>
    row.map((cell, at) => (widths === undefined ? cell : withBreaks(cell, widths[at]! - PADDING)))
  for (const row of rows) table.push(cells(row))
  const text = table.toString().replace(/[ \t]+$/gm, '')
  const width = Math.max(...text.split('\n').map(widthOf))
  if (columns === undefined || width <= columns) return text
  const names = head.map(name => name.replaceAll('\n', ' ').trim())
  return rows.map(row => block(names, row, columns)).join('\n')
}

/** What a table wraps at words, with its longest words in pieces: it would cut off the rest of them. */
function withBreaks(text: string, columns: number): string {
  return text.replace(/\S+/g, word => {
    const pieces: string[] = []
    let rest = word
    while (widthOf(rest) > columns) {
      const at = fitting(rest, columns)
      pieces.push(rest.slice(0, at))
      rest = rest.slice(at)
    }
    return [...pieces, rest].join('\n')
  })
}

/** Text in lines that fit. */
export function fitted(text: string, columns: number | undefined): string {
  if (columns === undefined) return text
  return text
    .split('\n')
    .flatMap(line => wrapped(line, Math.max(columns, NARROWEST)))
    .join('\n')
}

function block(head: readonly string[], [first = '', ...cells]: readonly string[], columns: number): string {
  const lines = cells.flatMap((cell, at) => {
    const name = head[at + 1] ?? ''
    const label = name === '' ? '' : `${name}: `
    return cell === '' ? [] : cell.split('\n').map((line, i) => `  ${i === 0 ? label : '  '}${line}`)
  })
  return fitted([first, ...lines].join('\n'), columns)
}

/** A line as several: at spaces where there are some, and somewhere else where a word is too long. */
function wrapped(line: string, columns: number): string[] {
  if (widthOf(line) <= columns) return [line]
  const most = fitting(line, columns)
  const space = line.lastIndexOf(' ', most)
  const isWord = line.slice(0, Math.max(0, space)).trim() === ''
  const at = isWord ? most : space
  const rest = line.slice(at).trimStart()
  return [line.slice(0, at).trimEnd(), ...(rest === '' ? [] : wrapped(`    ${rest}`, columns))]
}

/** How much of a line fits, in UTF-16 units: whole characters as people see them, one of them at least. */
function fitting(line: string, columns: number): number {
  let width = 0
  let isEmpty = true
  for (const { segment, index } of GRAPHEMES.segment(line)) {
    width += widthOf(segment)
    if (width > columns && !isEmpty) return index
    isEmpty &&= segment.trim() === ''
  }
  return line.length
}

const NO_LINES = {
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
}
