/**
 * What devices that join, say what they are and leave for good leave in the memory of a node that stays: each has an identity
 * of its own. Floors are compared as in `requests.ts`.
 *
 *     npm run bench:joins -- [--joins 200]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '../../node/client/index.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { residentBytes } from '../chaos/process-state.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { Nodes, SECRET, until } from '../fixtures/nodes.ts'

const AT_ONCE = 3
const SAMPLES = 40

const { values } = commandOptions(import.meta.url, { options: { joins: { type: 'string', default: '200' } } })
const joins = Number(values.joins)
const folder = await mkdtemp(join(tmpdir(), 'edgeshard-joins-'))
const home = join(folder, 'stays')
await admitHome(home, SECRET)
const node = await NodeProcess.start(['--home', home, '--no-mdns', '--port', '0', '--api', '127.0.0.1:0'])
try {
  const client = createClient({ url: node.api })
  const resident: { joins: number; bytes: number }[] = []
  let begun = 0
  let met = 0
  const joinInTurn = async (): Promise<void> => {
    while (begun < joins) {
      const number = begun++
      await using nodes = new Nodes()
      const guest = await nodes.add({ name: `guest-${number}`, bundled: false, peers: [node.addresses[0]!] })
      await until(async () =>
        (await client.mesh()).peers.some(peer => peer.peerId === guest.peerId && peer.connected)
      )
      met++
      if (number % Math.ceil(joins / SAMPLES) === 0) {
        resident.push({ joins: number, bytes: residentBytes(node.pid) })
        console.log(`${number} joins: ${(resident.at(-1)!.bytes / 2 ** 20).toFixed(0)} MiB resident`)
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, joinInTurn))
  const floor = (from: number, to: number) =>
    Math.min(...resident.filter(one => one.joins >= from && one.joins < to).map(({ bytes }) => bytes))
  const ratio = floor(0.6 * joins, joins) / floor(0.2 * joins, 0.6 * joins)
  const { peers } = await client.mesh()
  console.log(`${met} of ${joins} devices were met, ${peers.length} are listed; floors: ${ratio.toFixed(3)}`)
  if (met < joins) process.exitCode = 1
} finally {
  await node.stop()
  await rm(folder, { recursive: true, force: true })
}
