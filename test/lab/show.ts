// Shows two things the mesh must do, with the real commands: `node test/lab/show.ts [join|unplug ...]`.
import { Lab } from './lab.ts'
import { members } from './members.ts'
import { labProblem } from './permitted.ts'

const LINKS = { default: { mbps: 100, latencyMs: 1 } }
/** A link is measured when both have settled; asking takes a process of its own. */
const MEASURED_AFTER_MS = 5000
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

const problem = labProblem()
if (problem !== null) process.stdout.write(`skipped: ${problem}\n`)
else {
  const parts = { join, unplug }
  const asked = process.argv.slice(2)
  for (const [name, part] of Object.entries(parts))
    if (asked.length === 0 || asked.includes(name)) await part()
}

/** `up` on one host, `invite`, `join` on another, `peers --links` on both; a third has a secret of its own. */
async function join(): Promise<void> {
  await using lab = await Lab.create({
    hosts: [{ name: 'desktop' }, { name: 'laptop' }, { name: 'stranger' }],
    links: LINKS
  })
  say('desktop$ edgeshard up')
  await lab.up('desktop')
  const ticket = await show(lab, 'desktop', ['invite'])
  await show(lab, 'laptop', ['join'], ticket)
  say('laptop$ edgeshard up')
  say('stranger$ edgeshard up')
  const stranger = (await Promise.all([lab.up('laptop'), lab.up('stranger')]))[1]
  await pause(MEASURED_AFTER_MS)
  for (const host of ['desktop', 'laptop', 'stranger']) await show(lab, host, ['peers', '--links'])
  say(`the stranger was connected to ${stranger.connected.length} peers`)
}

/** What the others say while a host's cable is out and in again. */
async function unplug(): Promise<void> {
  const names = ['a', 'b', 'c']
  await using lab = await Lab.create({ hosts: names.map(name => ({ name })), links: LINKS })
  const nodes = await members(lab, names)
  await Promise.all(
    nodes.map(async node => {
      while (node.connected.length < 2) await pause(50)
    })
  )
  const watchers = nodes.filter(({ host }) => host !== 'c')
  const startMs = performance.now()
  const lines = (sinceMs: number) =>
    watchers.flatMap(({ host, events }) =>
      events.filter(event => event.atMs >= sinceMs && event.name === 'c').map(event => ({ host, ...event }))
    )
  const seen = (event: string) => lines(startMs).filter(line => line.event === event).length
  const until = async (event: string) => {
    while (seen(event) < watchers.length) await pause(20)
  }
  say('c is unplugged')
  await lab.unplug('c')
  await until('peer:disconnect')
  const pluggedMs = performance.now()
  await lab.plug('c')
  await until('peer:connect')
  const all = [
    ...lines(startMs).map(({ host, event, name, atMs, at }) => ({
      atMs,
      text: `${host} at ${at}: ${event} ${name}`
    })),
    { atMs: pluggedMs, text: 'c is plugged in again' }
  ]
  for (const { atMs, text } of all.toSorted((x, y) => x.atMs - y.atMs))
    say(`${((atMs - startMs) / 1000).toFixed(2).padStart(6)} s  ${text}`)
}

async function show(lab: Lab, host: string, args: string[], input = ''): Promise<string> {
  const printed = await lab.cli(host, args, input)
  say(`${host}$ edgeshard ${args.join(' ')}\n${printed}`)
  return printed
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
