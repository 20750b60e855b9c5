/** Names of so few letters are not taken for misspelt others. */
const SHORTEST = 4

/** True where `name` is nearly `known`: one letter too many, too few or another, or two swapped; another case or other separators. */
export function isNear(name: string, known: string): boolean {
  if (name.length < SHORTEST || known.length < SHORTEST || Math.abs(name.length - known.length) > 2)
    return false
  const plain = (text: string) => text.toLowerCase().replace(/[-_]/g, '')
  const [a, b] = [plain(name), plain(known)]
  return a === b || isOneEditAway(a, b)
}

function isOneEditAway(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start++
  let end = 0
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)]
  if (left.length <= 1 && right.length <= 1) return true
  return left.length === 2 && right.length === 2 && left[0] === right[1] && left[1] === right[0]
}
