/** A text in quotes, or a number that JSON has not. */
const TEXT_OR_INFINITY = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b/g
/** How transformers 5 writes such a number: `{"__float__": "Infinity"}`. */
const MARK = '__float__'
const MARKED: Partial<Record<string, number>> = {
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY
}

/**
 * JSON as Python programs write it: a number without an end, as in `time_step_limit` of Mamba 2, is a bare `Infinity`, or has a
 * mark.
 *
 * @throws {SyntaxError} where it is neither; NaN stays one.
 */
export function parsePythonJson(text: string): unknown {
  const reviver = text.includes(`"${MARK}"`) ? unmarked : undefined
  try {
    return JSON.parse(text, reviver)
  } catch (error) {
    // 1e999 is what JSON has for it.
    const finite = text.replace(TEXT_OR_INFINITY, found => found.replace(/^(-?)Infinity$/, '$11e999'))
    if (finite === text) throw error
    return JSON.parse(finite, reviver)
  }
}

function unmarked(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  const [[key, marked] = [], ...others] = Object.entries(value)
  return key === MARK && others.length === 0 && typeof marked === 'string' ? (MARKED[marked] ?? value) : value
}
