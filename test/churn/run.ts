// Churn: `npm run churn -- --minutes 60 --seed 1`. Real nodes in network namespaces answer while things happen to them at random;
// every answer is held against its undisturbed twin, and every few minutes all must come to rest. A line for each event, a
// JSON summary at the end, and status 1 where anything was not as it must be.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { whole } from '../chaos/mesh.ts'
import { ProcessMesh } from '../chaos/process-mesh.ts'
import { residentBytes } from '../chaos/process-state.ts'
import { atRest, Baseline } from '../chaos/rest.ts'
import type { Random } from '../chaos/round.ts'
import { Twins } from '../chaos/twin.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { prng } from '../fixtures/prng.ts'
import { otherVersion } from '../lab/other-version.ts'
import { labProblem } from '../lab/permitted.ts'
import { ChurnLab } from './churn-lab.ts'
import { client, newTally } from './clients.ts'
import { draw, type Happening, KINDS, type Kind } from './happenings.ts'
import { churnOptions, USAGE } from './options.ts'

/** The first two are prompted, and have the model. */
const NAMES = ['a', 'b', 'c', 'd', 'e']
const SOURCES = 2
/** Share of what the model needs: two devices hold it, so that things may happen to two of the five. */
const SHARE = 0.65
const CALM_EVERY_MS = 150_000
/** Between two events. */
const LEAST_WAIT_MS = 1_000
const MOST_WAIT_MS = 6_000
const MOST_AT_ONCE = 2
/** Set for the process that runs in a mount namespace of its own. */
const INSIDE = 'EDGESHARD_CHURN_INSIDE'

const startMs = performance.now()
const say = (line: string) =>
  process.stdout.write(`${((performance.now() - startMs) / 1000).toFixed(1).padStart(7)} s  ${line}\n`)

try {
  const options = churnOptions(process.argv.slice(2))
  const problem = labProblem()
  if (problem !== null) throw new Error(problem)
  process.exitCode = process.env[INSIDE] === undefined ? await inside() : await churn(options)
} catch (error) {
  process.stderr.write(`churn: ${(error as Error).stack}\n${USAGE}`)
  process.exitCode = 2
}

/** Runs this program once more, where disks that are mounted are seen by nobody else, and gone with the last process. */
async function inside(): Promise<number> {
  const child = spawn('unshare', ['--mount', process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' }
  })
  const [code] = (await once(child, 'exit')) as [number | null]
  return code ?? 2
}

async function churn({ minutes, seed }: { minutes: number; seed: number }): Promise<number> {
  const random = prng(seed)
  const problems: string[] = []
  const problem = (what: string) => {
    problems.push(what)
    say(`PROBLEM ${what}`)
  }
  const happened: Partial<Record<Kind, number>> = {}
  const memory: Record<string, number[]> = {}
  const tally = newTally()
  await using alone = await ProcessMesh.create({ names: ['alone'], memoryBytes: 2 ** 30, holders: 1 })
  await using other = await otherVersion('lease', -1, '0.0.9')
  await using lab = await ChurnLab.create({
    names: NAMES,
    memoryBytes: await bundledShare(SHARE),
    holders: SOURCES
  })
  const twins = new Twins(alone.devices[0]!)
  const sources = lab.devices.slice(0, SOURCES)
  await whole(lab)
  say(`${NAMES.length} nodes are connected; seed ${seed}, ${minutes} minutes`)
  const baseline = new Baseline()
  const endMs = performance.now() + 60_000 * minutes
  const deck: Kind[] = []
  const asking = sources.map((_, i) => prng(1000 * seed + i))
  while (performance.now() < endMs && problems.length < 10) {
    const over = new AbortController()
    const clients = sources.map((device, i) =>
      client({ device, twins, random: asking[i]!, tally, devices: lab.devices, until: over.signal, problem })
    )
    const untilMs = Math.min(endMs, performance.now() + CALM_EVERY_MS)
    await happen(lab, { random, untilMs, deck, otherCli: other.cli, happened, problem })
    over.abort()
    await Promise.all(clients)
    try {
      await whole(lab)
      await atRest(lab, baseline)
      baseline.note(lab)
    } catch (error) {
      problem((error as Error).message)
    }
    for (const { name, pid } of lab.devices)
      (memory[name] ??= []).push(Math.round(residentBytes(pid) / 2 ** 20))
    say(
      `calm: ${JSON.stringify({ ...tally, named: tally.named.length })}; MiB ${JSON.stringify(Object.fromEntries(NAMES.map(name => [name, memory[name]!.at(-1)])))}`
    )
  }
  const missing = KINDS.filter(kind => happened[kind] === undefined)
  process.stdout.write(
    `${JSON.stringify({ seed, minutes, happened, missing, answers: tally, memoryMiB: memory, problems })}\n`
  )
  return problems.length === 0 ? 0 : 1
}

interface HappenInit {
  random: Random
  untilMs: number
  /** Kinds that come before any comes again. */
  deck: Kind[]
  otherCli: string
  happened: Partial<Record<Kind, number>>
  problem(what: string): void
}

/** Lets things happen, a few at once, and waits until all are over. */
async function happen(
  lab: ChurnLab,
  { random, untilMs, deck, otherCli, happened, problem }: HappenInit
): Promise<void> {
  const under = new Map<Happening, Promise<void>>()
  while (performance.now() < untilMs) {
    await delay(LEAST_WAIT_MS + random() * (MOST_WAIT_MS - LEAST_WAIT_MS))
    if (under.size >= MOST_AT_ONCE) {
      await Promise.race(under.values())
      continue
    }
    if (deck.length === 0) deck.push(...shuffled(KINDS, random))
    const busy = new Set([...under.keys()].flatMap(({ devices }) => devices))
    const free = lab.devices.filter(device => !busy.has(device))
    const sources = lab.devices.slice(0, SOURCES)
    const kind = deck[0]!
    const next = draw(kind, random, { lab, free, sources, otherCli })
    if (next === undefined) continue
    deck.shift()
    say(next.told)
    happened[kind] = (happened[kind] ?? 0) + 1
    const played = next
      .play()
      .then(wrong => wrong !== undefined && problem(wrong))
      .catch(error => problem(`${next.told}: ${(error as Error).message}`))
      .then(() => void under.delete(next))
    under.set(next, played)
  }
  await Promise.all(under.values())
}

function shuffled<T>(items: readonly T[], random: Random): T[] {
  return items
    .map(item => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)
}
