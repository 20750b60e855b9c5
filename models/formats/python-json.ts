/** A text in quotes, or a number that JSON has not. */
const TEXT_OR_INFINITY = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b/g

/**
 * JSON as Python's `json.dumps` writes it, which has Infinity where a number has no end (`time_step_limit` of Mamba 2).
 *
 * @throws {SyntaxError} where it is neither; NaN stays one.
 */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    // 1e999 is what JSON has for it.
    const finite = text.replace(TEXT_OR_INFINITY, found => found.replace(/^(-?)Infinity$/, '$11e999'))
    if (finite === text) throw error
    return JSON.parse(finite)
  }
}
