/**
 * The JSON of an object in pieces, so that a large one is nobody's turn of the event loop: one for each item of the list
 * that it has besides its other fields, and one before and behind them. A consumer that waits between pieces lets others go on.
 */
export function* jsonPieces(
  fields: Readonly<Record<string, unknown>>,
  list: { name: string; items: Iterable<unknown> }
): Generator<string> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined)
  const head = entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)},`)
  yield `{${head.join('')}${JSON.stringify(list.name)}:[`
  let isFirst = true
  for (const item of list.items) {
    yield `${isFirst ? '' : ','}${JSON.stringify(item)}`
    isFirst = false
  }
  yield ']}'
}
