import Table from 'cli-table3'

/**
 * Rows under a head, as wide as the terminal at most: a table where that fits, else a block for each row, with its first
 * cell on top and a line for each other one that says something.
 *
 * @param columns of the terminal; undefined: none, so that nothing has to fit
 */
export function tableText(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  columns: number | undefined = process.stdout.columns
): string {
  const table = new Table({ head: [...head], style: { head: [], border: [] } })
  for (const row of rows) table.push([...row])
  const text = table.toString()
  const width = text.split('\n', 1)[0]!.length
  return columns === undefined || width <= columns
    ? text
    : rows.map(row => block(head, row, columns)).join('\n')
}

function block(head: readonly string[], [first = '', ...cells]: readonly string[], columns: number): string {
  const lines = cells.flatMap((cell, at) =>
    cell === '' ? [] : cell.split('\n').map((line, i) => `  ${i === 0 ? `${head[at + 1]}: ` : '  '}${line}`)
  )
  return [first, ...lines].flatMap(line => wrapped(line, columns)).join('\n')
}

/** A line as several: at spaces where there are some, and somewhere else where a word is too long. */
function wrapped(line: string, columns: number): string[] {
  if (line.length <= columns) return [line]
  const space = line.lastIndexOf(' ', columns)
  const isWord = line.slice(0, Math.max(0, space)).trim() === ''
  const at = isWord ? columns : space
  return [line.slice(0, at), ...wrapped(`    ${line.slice(at).trimStart()}`, columns)]
}
