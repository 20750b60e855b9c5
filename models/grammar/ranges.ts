import { escaped } from './rules.ts'

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

/** A character class of EBNF. */
export function classOf(ranges: readonly Range[]): string {
  const parts = sorted(ranges).map(([a, b]) => (a === b ? escaped(a) : `${escaped(a)}-${escaped(b)}`))
  return `[${parts.join('')}]`
}
