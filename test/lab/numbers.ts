// The mesh's numbers in the lab: `node test/lab/numbers.ts [meeting|leaving|estimates ...]`. Prints one line each; needs a machine with little else to do.

import type { MeshState } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { estimates } from './estimates.ts'
import { Lab } from './lab.ts'
import type { LabNode } from './lab-node.ts'
import { members } from './members.ts'
import { labProblem } from './permitted.ts'

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

const { positionals: asked } = commandOptions(import.meta.url, { allowPositionals: true })
const problem = labProblem()
if (problem !== null) {
  process.stdout.write(`skipped: ${problem}\n`)
} else {
  const parts = { meeting, leaving, estimates }
  for (const [name, part] of Object.entries(parts))
    if (asked.length === 0 || asked.includes(name)) await part()
}

async function meeting(): Promise<void> {
  await using lab = await Lab.create({
    hosts: NAMES.map(name => ({ name })),
    links: { default: { mbps: 1000 } }
  })
  const nodes = await members(lab, NAMES)
  const lastReadyMs = Math.max(...nodes.map(node => node.events.find(({ event }) => event === 'ready')!.atMs))
  await Promise.all(nodes.map(node => connections(node, NAMES.length - 1)))
  const lastMetMs = Math.max(
    ...nodes.map(node => node.events.findLast(({ event }) => event === 'peer:connect')!.atMs)
  )
  say(
    '8 hosts all connected after the last ready',
    `${((lastMetMs - lastReadyMs) / 1000).toFixed(2)} s`,
    '3 s'
  )

  await allMeasured(lab, NAMES.length)
  await pause(3000)
  const before = await Promise.all(NAMES.map(name => lab.bytesSent(name)))
  const seconds = 30
  await pause(seconds * 1000)
  const after = await Promise.all(NAMES.map(name => lab.bytesSent(name)))
  const rates = after.map((bytes, i) => (bytes - before[i]!) / seconds / 1000)
  say('idle traffic sent per node', `${Math.max(...rates).toFixed(2)} kB/s at most`, '3 kB/s')
}

async function leaving(): Promise<void> {
  const names = NAMES.slice(0, 4)
  await using lab = await Lab.create({ hosts: names.map(name => ({ name })) })
  const [a, b, c, d] = await members(lab, names)
  await Promise.all([a!, b!, c!, d!].map(node => connections(node, 3)))
  const knownAfter = async (act: () => unknown, event: string, name: string, watchers: LabNode[]) => {
    const startMs = performance.now()
    await act()
    const seen = await Promise.all(
      watchers.map(node => node.event(e => e.event === event && e.name === name && e.atMs > startMs))
    )
    return `${((Math.max(...seen.map(({ atMs }) => atMs)) - startMs) / 1000).toFixed(2)} s`
  }
  say(
    'a killed peer is known to all',
    await knownAfter(() => d!.signal('SIGKILL'), 'peer:disconnect', 'd', [a!, b!, c!]),
    '1 s'
  )
  say(
    'a hung peer is known to all',
    await knownAfter(() => b!.signal('SIGSTOP'), 'peer:suspect', 'b', [a!, c!]),
    '4 s'
  )
  say(
    'a peer that speaks again is known to all',
    await knownAfter(() => b!.signal('SIGCONT'), 'peer:recovered', 'b', [a!, c!]),
    '4 s'
  )
  say(
    'an unplugged peer is known to all',
    await knownAfter(() => lab.unplug('c'), 'peer:suspect', 'c', [a!, b!]),
    '4 s'
  )
  await Promise.all([a!, b!].map(node => node.event(e => e.event === 'peer:disconnect' && e.name === 'c')))
  say(
    'a returned peer is connected',
    await knownAfter(() => lab.plug('c'), 'peer:connect', 'c', [a!, b!]),
    '12 s'
  )
}

/** Waits until every link is in the matrix, or for a minute. */
async function allMeasured(lab: Lab, hosts: number): Promise<void> {
  for (let i = 0; i < 30; i++) {
    const { links } = JSON.parse(await lab.cli('a', ['peers', '--json'])) as MeshState
    if (links.length === hosts * (hosts - 1)) return
    await pause(2000)
  }
}

async function connections(node: LabNode, count: number): Promise<void> {
  while (node.connected.length < count) await pause(10)
}

function say(what: string, found: string, aim: string): void {
  process.stdout.write(`${what}: ${found} (aim: ${aim})\n`)
}
