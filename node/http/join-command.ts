import { encode } from 'uqr'
import type { JoinCommand } from '../api.ts'
import { hostAndPort } from '../mesh/contacts.ts'

/** @param addresses - multiaddrs at which pairing is listened for, the best first */
export function joinCommandFor(addresses: readonly string[]): JoinCommand {
  const [first] = addresses
  const command = `npx edgeshard join${first === undefined ? '' : ` --peer ${hostAndPort(first)}`}`
  // The standard's quiet zone: cameras find nothing without it.
  const { size, data } = encode(command, { border: 4 })
  return { command, qr: { size, path: pathOf(data) } }
}

/** A rectangle for each run of dark modules in a row. */
function pathOf(rows: readonly (readonly boolean[])[]): string {
  return rows
    .flatMap((row, y) =>
      row.flatMap((isDark, x) => {
        if (!isDark || row[x - 1] === true) return []
        const end = row.indexOf(false, x)
        return [`M${x} ${y}h${(end === -1 ? row.length : end) - x}v1H${x}z`]
      })
    )
    .join('')
}
