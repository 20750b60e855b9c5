import { GrammarError } from './errors.ts'
import { either, escaped, literal } from './rules.ts'

/** Code points from the first to the last, both included. */
export type Range = readonly [first: number, last: number]

/** All that text is made of: no surrogates, which are none in UTF-8. */
export const ALL: readonly Range[] = [
  [0, 0xd7ff],
  [0xe000, 0x10ffff]
]

/** Those in order, with neighbours as one. */
function sorted(ranges: readonly Range[]): Range[] {
  const result: Range[] = []
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = result.at(-1)
    if (before !== undefined && first <= before[1] + 1) {
      result[result.length - 1] = [before[0], Math.max(before[1], last)]
    } else result.push([first, last])
  }
  return result
}

/** What is in the one, and not in the other. */
export function without(ranges: readonly Range[], others: readonly Range[]): Range[] {
  let left = sorted(ranges)
  for (const [first, last] of others) {
    left = left.flatMap(([a, b]): Range[] => {
      if (last < a || first > b) return [[a, b]]
      return [...(a < first ? [[a, first - 1] as const] : []), ...(b > last ? [[last + 1, b] as const] : [])]
    })
  }
  return left
}

/** What is in both. */
export function common(ranges: readonly Range[], others: readonly Range[]): Range[] {
  return without(ranges, without(ALL, others))
}

/** More letters beyond ASCII than this are all of them, or too many. */
const MAX_LETTERS = 256
const ASCII: readonly Range[] = [[1, 0x7f]]
const BEYOND: readonly Range[] = without(ALL, [[0, 0x7f]])

/**
 * One character of these as EBNF. xgrammar reads classes byte by byte: what is beyond ASCII it has right only where a class
 * says what is not in it, so of letters beyond it there are all, or they are named one by one. There is no zero byte.
 *
 * @throws {GrammarError} where there are too many to name
 */
export function classOf(ranges: readonly Range[]): string {
  const beyond = common(ranges, BEYOND)
  const ascii = common(ranges, ASCII)
  const count = beyond.reduce((sum, [first, last]) => sum + last - first + 1, 0)
  if (without(BEYOND, beyond).length === 0) return `[^${listed([[0, 0], ...without(ASCII, ascii)])}]`
  if (count > MAX_LETTERS) {
    throw new GrammarError(`of letters beyond ASCII a class may have all, or ${MAX_LETTERS}, not ${count}`)
  }
  const letters = beyond.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) => literal(String.fromCodePoint(first + i)))
  )
  return either([...(ascii.length > 0 ? [`[${listed(ascii)}]`] : []), ...letters])
}

function listed(ranges: readonly Range[]): string {
  return sorted(ranges)
    .map(([a, b]) => (a === b ? escaped(a) : `${escaped(a)}-${escaped(b)}`))
    .join('')
}
