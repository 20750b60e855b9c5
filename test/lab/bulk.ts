// Weights over a link that also carries tokens: `node test/lab/bulk.ts [MBPS] [DELAY_MS]` (500 and 0). Two processes in namespaces of their own.

import { commandOptions } from '../fixtures/command-options.ts'
import type { BulkResult } from './bulk-peer.ts'
import { Lab } from './lab.ts'
import { labProblem } from './permitted.ts'

const PEER = new URL('./bulk-peer.ts', import.meta.url).pathname
/** How long a copy takes, at least. */
const SECONDS = 4
/** What TCP, IP and Ethernet leave of a link: 1448 of 1538 bytes. */
const GOODPUT = 1448 / 1538

const problem = labProblem()
const { positionals } = commandOptions(import.meta.url, { allowPositionals: true })
const [mbps = 500, latencyMs = 0] = positionals.map(Number)
if (problem !== null) process.stdout.write(`skipped: ${problem}\n`)
else {
  await using lab = await Lab.create({
    hosts: [{ name: 'a' }, { name: 'b' }],
    links: { default: { mbps, latencyMs } }
  })
  const bytes = String(Math.ceil(mbps * 125_000 * SECONDS))
  const address = await lab.background('b', process.execPath, [PEER, 'serve', bytes])
  const result = JSON.parse(
    await lab.exec('a', process.execPath, [PEER, 'fetch', bytes, address])
  ) as BulkResult
  const share = result.mbps / mbps
  const ms = (times: number[], q: number) =>
    times.toSorted((x, y) => x - y)[Math.floor(q * (times.length - 1))]!.toFixed(2)
  process.stdout.write(`a link of ${mbps} Mbps, ${latencyMs} ms; two processes\n`)
  for (const [name, times] of [
    ['nothing else', result.idleMs],
    ['weights', result.busyMs]
  ] as const)
    process.stdout.write(
      `echo of 16 KiB beside ${name}: median ${ms(times, 0.5)} ms, p99 ${ms(times, 0.99)} ms, longest ${ms(times, 1)} ms (${times.length})\n`
    )
  process.stdout.write(
    `weights: ${result.mbps.toFixed(0)} Mbps = ${(100 * share).toFixed(1)} % of the link, ` +
      `${((100 * share) / GOODPUT).toFixed(1)} % of what TCP can carry on it (aim: 90 %; p99 10 ms)\n`
  )
  process.stdout.write(
    `the machine's processors were ${(100 * result.machineBusy).toFixed(0)} % busy meanwhile\n`
  )
}
