import { type Child, html } from './html.ts'
import { inlines } from './markdown-inline.ts'

/** What is nested deeper is shown as it is: a model may write anything, and reading it must end soon. */
const MAX_DEPTH = 5
const ITEM = /^(\s{0,8})([-*+]|\d{1,9}[.)])\s+(\S.*|)$/
const FENCE = /^\s{0,3}(`{3,}|~{3,})/
const HEADING = /^\s{0,3}#{1,6}\s+(\S.*)$/
const RULE = /^\s{0,3}([-*_])(?:\s*\1){2,}\s*$/
const QUOTE = /^\s{0,3}> ?/
/** The row below a table's head. */
const TABLE_RULE = /^\s*\|?\s*:?-{1,40}:?\s*(?:\|\s*:?-{1,40}:?\s*){0,40}\|?\s*$/

/**
 * A model's text with the Markdown that models write. HTML in it stays text, a picture is its description, and links lead
 * to the web alone. In time linear in the text, whatever it is.
 */
export function markdown(text: string): Child {
  return blocks(text.split('\n'), 0)
}

/**
 * Markdown of a text that grows at its end: what can change no more is read once, and stays the same elements, so that
 * nothing of it is drawn anew.
 */
export class GrowingMarkdown {
  /** The text so far as it is settled, and its elements. */
  #settled = ''
  readonly #elements: Child[] = []

  /** The same as `markdown`; of a text that does not go on with the one before it begins anew. */
  read(text: string): Child[] {
    if (!text.startsWith(this.#settled)) {
      this.#settled = ''
      this.#elements.length = 0
    }
    const lines = text.slice(this.#settled.length).split('\n')
    const open: Child[] = []
    let settledLines = 0
    for (let at = 0; at < lines.length; ) {
      const isBlank = lines[at]!.trim() === ''
      const { block, end } = isBlank ? { block: null, end: at + 1 } : blockAt(lines, at, 0)
      at = end
      // Where a block ends says at most the line behind the one that ends it; the last line may still grow.
      const isSettled = end < lines.length - 2 && open.length === 0
      if (!isBlank) (isSettled ? this.#elements : open).push(block)
      if (isSettled) settledLines = end
    }
    const settled = lines.slice(0, settledLines).reduce((sum, line) => sum + line.length + 1, 0)
    this.#settled = text.slice(0, this.#settled.length + settled)
    return [...this.#elements, ...open]
  }
}

function blocks(lines: readonly string[], depth: number): Child[] {
  const out: Child[] = []
  for (let at = 0; at < lines.length; ) {
    const line = lines[at]!
    if (line.trim() === '') at++
    else if (depth >= MAX_DEPTH) {
      out.push(html`<p>${lines.slice(at).join('\n')}</p>`)
      break
    } else {
      const { block, end } = blockAt(lines, at, depth)
      out.push(block)
      at = end
    }
  }
  return out
}

/** The block that begins at a line that is not empty, and the line behind it. */
function blockAt(lines: readonly string[], at: number, depth: number): { block: Child; end: number } {
  const line = lines[at]!
  const fence = FENCE.exec(line)?.[1]
  if (fence !== undefined) return code(lines, at, fence)
  const heading = HEADING.exec(line)?.[1]
  if (heading !== undefined) return { block: html`<p class="heading">${inlines(heading)}</p>`, end: at + 1 }
  if (RULE.test(line)) return { block: html`<hr />`, end: at + 1 }
  if (QUOTE.test(line)) {
    const end = endWhere(lines, at, other => !QUOTE.test(other))
    const inner = lines.slice(at, end).map(quoted => quoted.replace(QUOTE, ''))
    return { block: html`<blockquote>${blocks(inner, depth + 1)}</blockquote>`, end }
  }
  if (ITEM.test(line)) return list(lines, at, depth)
  if (line.includes('|') && TABLE_RULE.test(lines[at + 1] ?? '')) return table(lines, at)
  const end = endWhere(lines, at + 1, other => other.trim() === '' || beginsBlock(other))
  return { block: html`<p>${inlines(lines.slice(at, end).join('\n'))}</p>`, end }
}

function beginsBlock(line: string): boolean {
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some(start => start.test(line))
}

function endWhere(lines: readonly string[], from: number, isEnd: (line: string) => boolean): number {
  let end = from
  while (end < lines.length && !isEnd(lines[end]!)) end++
  return end
}

/** A fence that is not closed holds the rest: the answer may still be under way. */
function code(lines: readonly string[], at: number, fence: string): { block: Child; end: number } {
  const end = endWhere(lines, at + 1, line => line.trim().startsWith(fence))
  const text = lines.slice(at + 1, end).join('\n')
  // The view that shows it sees to the button.
  const block = html`<div class="code"><pre tabindex="0"><code>${text}</code></pre><button type="button" class="quiet copy-code">Copy code</button></div>`
  return { block, end: end + 1 }
}

function list(lines: readonly string[], at: number, depth: number): { block: Child; end: number } {
  const [, indent = '', marker = ''] = ITEM.exec(lines[at]!)!
  const isOrdered = /\d/.test(marker)
  const items: string[][] = []
  let end = at
  while (end < lines.length) {
    const line = lines[end]!
    const [, ownIndent = '', ownMarker = '', rest = ''] = ITEM.exec(line) ?? []
    const isItem = ownMarker !== '' && ownIndent.length <= indent.length + 1
    if (isItem && /\d/.test(ownMarker) === isOrdered) items.push([rest])
    else if (isItem || !continues(lines, end)) break
    else items.at(-1)!.push(line.replace(/^ {1,4}|^\t/, ''))
    end++
  }
  const entries = items.map(item => html`<li>${blocks(item, depth + 1)}</li>`)
  const block = isOrdered
    ? html`<ol start=${Number.parseInt(marker, 10)}>${entries}</ol>`
    : html`<ul>${entries}</ul>`
  return { block, end }
}

/** Whether a line goes on with the item before: it is indented, or empty before one that is. */
function continues(lines: readonly string[], at: number): boolean {
  const isIndented = (line: string | undefined) => /^(?: {2}|\t)/.test(line ?? '')
  const isBlank = lines[at]!.trim() === ''
  return isBlank ? isIndented(lines[at + 1]) || ITEM.test(lines[at + 1] ?? '') : isIndented(lines[at])
}

function table(lines: readonly string[], at: number): { block: Child; end: number } {
  const end = endWhere(lines, at + 2, line => !line.includes('|'))
  const [head = [], ...rows] = [lines[at]!, ...lines.slice(at + 2, end)].map(cells)
  const block = html`<div class="wide" tabindex="0" role="group" aria-label="Table"><table>
    <thead><tr>${head.map(cell => html`<th scope="col">${inlines(cell)}</th>`)}</tr></thead>
    <tbody>${rows.map(row => html`<tr>${row.map(cell => html`<td>${inlines(cell)}</td>`)}</tr>`)}</tbody>
  </table></div>`
  return { block, end }
}

function cells(row: string): string[] {
  return row
    .trim()
    .replace(/^\||\|$/g, '')
    .split('|')
    .map(cell => cell.trim())
}
