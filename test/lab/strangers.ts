// Strangers on the network of a mesh: `npm run attack:strangers`. A member's cable is out for a while, without and with a
// stranger that announces addresses of its own for both members; a device joins at a node to which nine hosts keep opening
// connections that say nothing. Prints how long members take to meet and what the strangers did meanwhile.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { deadlineMs } from '../fixtures/machine.ts'
import { Lab } from './lab.ts'
import type { LabNode } from './lab-node.ts'
import { members } from './members.ts'
import { labProblem } from './permitted.ts'

const STRANGER = new URL('./stranger.ts', import.meta.url).pathname
/** Longer than a silent connection is kept. */
const CABLE_OUT_MS = 22_000
const RECONNECT_MS = 5000
const JOIN_MS = 20_000
const CALLERS = 9
const GIVE_UP_MS = deadlineMs(60_000)

interface Counts {
  learned: number
  packets: number
  dials: number
  opened: number
}

const say = (line: string) => process.stdout.write(`${line}\n`)

/** Milliseconds until the node is connected to so many peers, or undefined where that takes too long. */
async function connectedMs(node: LabNode, count: number): Promise<number | undefined> {
  const startMs = performance.now()
  while (node.connected.length < count) {
    if (performance.now() - startMs > GIVE_UP_MS) return undefined
    await delay(20)
  }
  return performance.now() - startMs
}

async function cableOut(lab: Lab, nodes: readonly LabNode[]): Promise<number | undefined> {
  await lab.unplug('m1')
  await delay(CABLE_OUT_MS)
  while (nodes.some(node => node.connected.length > 0)) await delay(50)
  await lab.plug('m1')
  return await connectedMs(nodes[0]!, 1)
}

async function stranger(lab: Lab, host: string, ...args: string[]): Promise<() => Promise<Counts>> {
  const counts = join(lab.home(host), '..', `${host}.json`)
  const [kind, ...more] = args
  await lab.background(host, process.execPath, [STRANGER, kind!, lab.address(host), counts, ...more])
  return async () => JSON.parse(await readFile(counts, 'utf8')) as Counts
}

function verdict(what: string, ms: number | undefined, limitMs: number): boolean {
  say(
    `${what}: ${ms === undefined ? 'not within a minute' : `${(ms / 1000).toFixed(1)} s`} (aim: ${limitMs / 1000} s)`
  )
  return ms !== undefined && ms <= limitMs
}

async function spoofed(): Promise<boolean> {
  await using lab = await Lab.create({ hosts: [{ name: 'm1' }, { name: 'm2' }, { name: 'stranger' }] })
  const nodes = await members(lab, ['m1', 'm2'])
  await connectedMs(nodes[0]!, 1)
  say(`cable out for ${CABLE_OUT_MS / 1000} s`)
  const quiet = verdict('reconnected, undisturbed', await cableOut(lab, nodes), RECONNECT_MS)
  const counts = await stranger(lab, 'stranger', 'spoof')
  await delay(1000)
  while ((await counts()).learned < 2) await delay(200)
  const attacked = verdict('reconnected, with a stranger', await cableOut(lab, nodes), RECONNECT_MS)
  const { packets, dials } = await counts()
  say(`the stranger sent ${packets} packets, and ${dials} dials went to it`)
  for (const node of nodes) {
    await node.stop()
    const remembered = await readFile(join(lab.home(node.host), 'peers.json'), 'utf8')
    say(`${node.host} remembers ${remembered.replaceAll(/12D3\w+/g, id => id.slice(-6))}`)
  }
  const notices = nodes.flatMap(({ events }) =>
    events.flatMap(({ event, message }) => (event === 'notice' ? [message] : []))
  )
  say(
    `notices: ${notices.filter(text => /another (mesh|secret)/.test(text ?? '')).join('; ') || 'none of another mesh'}`
  )
  return quiet && attacked && dials > 0
}

async function crowded(): Promise<boolean> {
  const callers = Array.from({ length: CALLERS }, (_, i) => `x${i}`)
  await using lab = await Lab.create({ hosts: ['a', 'b', ...callers].map(name => ({ name })) })
  const a = await lab.up('a', ['--no-mdns'])
  await lab.cli('b', ['join'], await lab.cli('a', ['invite']))
  const { addresses } = await a.ready()
  const address = addresses!.find(text => text.includes(lab.address('a')))!
  const port = /tcp\/(\d+)/.exec(address)![1]!
  const counts = await Promise.all(callers.map(host => stranger(lab, host, 'call', lab.address('a'), port)))
  await delay(5000)
  const b = await lab.up('b', ['--no-mdns', '--peer', address])
  const joined = verdict(
    `joined, beside ${CALLERS} callers that say nothing`,
    await connectedMs(b, 1),
    JOIN_MS
  )
  const opened = (await Promise.all(counts.map(count => count()))).reduce(
    (sum, count) => sum + count.opened,
    0
  )
  say(`they opened ${opened} connections`)
  return joined && opened > 0
}

const problem = labProblem()
if (problem !== null) say(`skipped: ${problem}`)
else {
  const held = [await spoofed(), await crowded()]
  process.exitCode = held.every(Boolean) ? 0 : 1
}
