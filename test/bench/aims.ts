import Table from 'cli-table3'

/** A figure, and what it should be: at most `most`, and no less than `least`; absent where there is no aim. */
export interface Figure {
  what: string
  figure: number
  least?: number
  most?: number
  beside?: string
}

/** Figures with their aims, a line each. */
export function tableOf(figures: readonly Figure[]): string {
  const table = new Table({ head: ['', 'figure', 'aim', ''], style: { head: [], border: [] } })
  for (const figure of figures) {
    table.push([figure.what, figure.figure.toFixed(2), aimOf(figure), figure.beside ?? ''])
  }
  return table.toString()
}

function aimOf({ figure, least = Number.NEGATIVE_INFINITY, most }: Figure): string {
  if (most === undefined) return ''
  const aim = least === Number.NEGATIVE_INFINITY ? `at most ${most}` : `${least} to ${most}`
  return figure >= least && figure <= most ? aim : `${aim}, missed`
}
