import { PLAIN } from './json-string.ts'
import { classOf, common, without } from './ranges.ts'
import { either, type Rules } from './rules.ts'

interface Node {
  next: Map<number, Node>
  ends: boolean
}

/** A key of plain characters that is none of `names`: these have a schema of their own. */
export function otherKey(rules: Rules, names: readonly string[]): string {
  const top: Node = { next: new Map(), ends: false }
  for (const name of names) {
    let node = top
    for (const char of name) {
      const code = char.codePointAt(0)!
      const next = node.next.get(code) ?? { next: new Map(), ends: false }
      node.next.set(code, next)
      node = next
    }
    node.ends = true
  }
  return `"\\"" ${restOf(rules, top)} "\\""`
}

function restOf(rules: Rules, { next, ends }: Node): string {
  const codes = [...next.keys()]
  // A class cannot leave out single letters beyond ASCII; keys without any are enough then.
  const all = codes.some(code => code > 0x7f) ? common(PLAIN, [[1, 0x7f]]) : PLAIN
  const others = without(
    all,
    codes.map(code => [code, code])
  )
  const options = [`${classOf(others)} ${classOf(PLAIN)}*`]
  for (const [code, node] of next) options.push(`${classOf([[code, code]])} ${restOf(rules, node)}`)
  if (!ends) options.push('""')
  return rules.add('key', either(options))
}
