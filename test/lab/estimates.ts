import { rm } from 'node:fs/promises'
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
  const print = (cells: string[]) =>
    process.stdout.write(`${cells.map(cell => cell.padStart(13)).join('')}\n`)
  print(['set Mbps', 'set delay ms', 'there', 'back', 'there : set', 'back : set', 'delay ms', 'off by ms'])
  let [worstRate, worstDelay] = [0, 0]
  for (const mbps of MBPS) {
    // A device measures few links an hour: another pair for each rate.
    await using lab = await Lab.create({ hosts: [{ name: 'a' }, { name: 'b' }] })
    let [, b] = await members(lab, ['a', 'b'])
    for (const latencyMs of LATENCY_MS) {
      // Of a device that is back the old figures are assumed: another one comes in its place.
      await b!.stop()
      await rm(lab.home('b'), { recursive: true, force: true })
      await lab.setLinks({ default: { mbps, latencyMs } })
      await lab.cli('b', ['join'], await lab.cli('a', ['invite']))
      b = await lab.up('b')
      const [there, back] = await measured(lab, (await b.ready()).peerId!)
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

/** The link from a to another device and back, once both are in the matrix. */
async function measured(lab: Lab, peerId: string): Promise<[MeshState['links'][0], MeshState['links'][0]]> {
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, MEASURED_AFTER_MS))
    const { self, links } = JSON.parse(await lab.cli('a', ['peers', '--json'])) as MeshState
    const there = links.find(({ from, to }) => from === self.peerId && to === peerId)
    const back = links.find(({ from, to }) => from === peerId && to === self.peerId)
    if (there !== undefined && back !== undefined) return [there, back]
  }
}
