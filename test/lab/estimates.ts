import type { MeshState } from '../../node/api.ts'
import { Lab } from './lab.ts'
import { members } from './members.ts'

const MBPS = [1, 5, 10, 50, 100, 200, 500]
const LATENCY_MS = [0, 1, 5, 10]

/**
 * What two real nodes measure of links that are known. The set bandwidth is that of the wire: TCP, IP and Ethernet
 * take 6 % of it, so goodput can be 0.94 of it at most.
 */
export async function estimates(): Promise<void> {
  await using lab = await Lab.create({ hosts: [{ name: 'a' }, { name: 'b' }] })
  let [, b] = await members(lab, ['a', 'b'])
  const print = (cells: string[]) =>
    process.stdout.write(`${cells.map(cell => cell.padStart(13)).join('')}\n`)
  print(['set Mbps', 'set delay ms', 'there', 'back', 'there : set', 'back : set', 'delay ms', 'off by ms'])
  let [worstRate, worstDelay] = [0, 0]
  for (const mbps of MBPS) {
    for (const latencyMs of LATENCY_MS) {
      // A node that left is forgotten, and so are the links to it: the next node is measured anew.
      await b!.stop()
      await lab.setLinks({ default: { mbps, latencyMs } })
      b = await lab.up('b')
      const [there, back] = await measured(lab)
      const delayMs = there.rttMs / 2
      const ratios = [there.mbps / mbps, back.mbps / mbps]
      worstRate = Math.max(worstRate, ...ratios.map(ratio => Math.abs(ratio - 1)))
      worstDelay = Math.max(worstDelay, Math.abs(delayMs - latencyMs))
      print([
        String(mbps),
        String(latencyMs),
        there.mbps.toFixed(2),
        back.mbps.toFixed(2),
        ...ratios.map(ratio => ratio.toFixed(3)),
        delayMs.toFixed(2),
        (delayMs - latencyMs).toFixed(2)
      ])
    }
  }
  process.stdout.write(
    `estimates are off by ${(100 * worstRate).toFixed(1)} % and ${worstDelay.toFixed(2)} ms at most (aim: 10 %, 1 ms)\n`
  )
}

/** Asking takes a process of its own, which must not disturb what it asks about. */
const MEASURED_AFTER_MS = 4000

/** The link from a to b and back, once both are in the matrix. */
async function measured(lab: Lab): Promise<[MeshState['links'][0], MeshState['links'][0]]> {
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, MEASURED_AFTER_MS))
    const { self, links } = JSON.parse(await lab.cli('a', ['peers', '--json'])) as MeshState
    const there = links.find(({ from }) => from === self.peerId)
    const back = links.find(({ to }) => to === self.peerId)
    if (there !== undefined && back !== undefined) return [there, back]
  }
}
