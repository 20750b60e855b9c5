// A stranger in the lab, started by strangers.ts: `stranger.ts spoof IP COUNTS` or `stranger.ts call IP COUNTS HOST PORT`.
// Prints `ready`, then keeps writing what it has done so far to the file COUNTS.
import { renameSync, writeFileSync } from 'node:fs'
import { MdnsSpoofer } from '../fixtures/mdns-spoofer.ts'
import { SilentCallers } from '../fixtures/silent-callers.ts'

const [kind, ip, counts, host, port] = process.argv.slice(2)
const spoofer = kind === 'spoof' ? await MdnsSpoofer.start(ip!) : undefined
const callers = kind === 'call' ? new SilentCallers({ host: host!, port: Number(port) }, [ip!]) : undefined
function write(): void {
  const { packets = 0, dials = 0 } = spoofer ?? {}
  const done = { learned: spoofer?.learned.size ?? 0, packets, dials, opened: callers?.opened ?? 0 }
  // Whole or not at all: it is read at any time.
  writeFileSync(`${counts}.new`, JSON.stringify(done))
  renameSync(`${counts}.new`, counts!)
}

write()
setInterval(write, 200)
process.stdout.write('ready\n')
