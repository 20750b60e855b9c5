/**
 * How even sources without a leader share devices that cannot serve all of them: real tables of leases and the real order of
 * reserving over simulated streams (test/node/stage/simulated-source.ts), with sources that ask again as soon as they are
 * answered or refused. Half of them want a model on one device, half on several.
 *
 *     npm run bench:fairness -- [--sources 100] [--minutes 60] [--answer-s 10] [--seed 1] [--sticky]
 *
 * With `--sticky` the same devices suit a source best each time, as where links differ; else all are alike. Prints, for both halves,
 * Jain's index of the answers of each source, the longest time that one had none, and the share of requests that were refused
 * after their wait; then all answers together, and what share of all devices' time they took. With `--sticky` also the index of
 * what would be max-min fair among those that want one device, in the time that these had on each: where each waits for the device that
 * suits it best, and how many wait for the same one differs.
 */

import { LEASE_EXPIRY_CHECK_MS } from '../../node/constants.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { SimulatedServer } from '../node/stage/simulated-server.ts'
import { SimulatedSource, type Wish } from '../node/stage/simulated-source.ts'
import { SimulatedTime } from '../node/stage/simulated-time.ts'
import { Random } from '../protocols/mutate.ts'
import { maxMinFair } from './max-min.ts'

const { values } = commandOptions(import.meta.url, {
  options: {
    sources: { type: 'string', default: '100' },
    minutes: { type: 'string', default: '60' },
    'answer-s': { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    sticky: { type: 'boolean', default: false }
  }
})
const [sources, minutes, answerS, seed] = [
  values.sources,
  values.minutes,
  values['answer-s'],
  values.seed
].map(Number) as [number, number, number, number]
const SERVERS = 20
/** Devices of a large model; each stage takes all that its device gives. */
const STAGES = 5
const endMs = minutes * 60_000

interface Lived {
  large: boolean
  /** The devices that it waits for, where what suits it is the same each time. */
  waitsFor: string[]
  answers: number
  refused: number
  /** The longest time from one answer to the next, or to the end. */
  longestMs: number
}

const random = new Random(seed)
const time = new SimulatedTime()
const servers = Array.from({ length: SERVERS }, (_, i) => new SimulatedServer(`s${i}`, 100, time))
/** How long sources that want one device have used each, in ms. */
const usedMs = new Map(servers.map(({ id }) => [id, 0]))
for (const server of servers) noteUse(server)
let over = false
const expire = () => {
  for (const server of servers) server.expire()
  if (!over) time.at(LEASE_EXPIRY_CHECK_MS, expire)
}
time.at(LEASE_EXPIRY_CHECK_MS, expire)

/** A lease takes all of a server, so one source uses it at a time. */
function noteUse(server: SimulatedServer): void {
  const use = server.use.bind(server)
  let sinceMs: number | undefined
  server.use = (leaseId, inUse) => {
    const source = server.table.state(() => 0).find(({ id }) => id === leaseId)?.source
    if (inUse && source !== undefined && !isLarge(source)) sinceMs = time.nowMs
    else if (!inUse && sinceMs !== undefined) {
      usedMs.set(server.id, usedMs.get(server.id)! + time.nowMs - sinceMs)
      sinceMs = undefined
    }
    return use(leaseId, inUse)
  }
}

function isLarge(source: string): boolean {
  return Number(source.replace('source', '')) % 2 === 1
}

async function live(index: number): Promise<Lived> {
  const large = isLarge(`source${index}`)
  // Its links to them are the same each time.
  const suits = new Map(servers.map(({ id }) => [id, random.next()]))
  const best = [...suits].sort(([, a], [, b]) => b - a).map(([id]) => id)
  const lived = {
    ...{ large, waitsFor: best.slice(0, large ? STAGES : 1) },
    ...{ answers: 0, refused: 0, longestMs: 0 }
  }
  const source = new SimulatedSource({
    ...{ servers, time, random, id: `source${index}` },
    weather: { loss: 0, maxDelayMs: 5 },
    answerMs: () => 1000 * answerS * (0.5 + random.next()),
    loadMs: () => 500,
    ...(values.sticky && { suits: (server: SimulatedServer) => suits.get(server.id)! })
  })
  // Each has a model of its own: nothing is shared.
  const parts = Array.from({ length: large ? STAGES : 1 }, (_, i) => {
    const range: [number, number] = [i * 100, i * 100 + 60]
    return { range, ownBytes: 40 }
  })
  const wish: Wish = { modelId: `m${index}`, parts }
  let lastMs = 0
  while (time.nowMs < endMs) {
    const isAnswered = await source.answer(wish, new AbortController().signal).then(
      () => true,
      () => false
    )
    lived.longestMs = Math.max(lived.longestMs, time.nowMs - lastMs)
    if (isAnswered) {
      lived.answers++
      lastMs = time.nowMs
    } else {
      lived.refused++
      await time.sleep(random.below(1000))
    }
  }
  source.giveBack()
  return lived
}

/** 1: all have the same; 1/n: one has all. */
function jain(counts: readonly number[]): number {
  const sum = counts.reduce((all, count) => all + count, 0)
  return sum ** 2 / (counts.length * counts.reduce((all, count) => all + count ** 2, 0))
}

function correlation(xs: readonly number[], ys: readonly number[]): number {
  const mean = (values: readonly number[]) => values.reduce((all, value) => all + value, 0) / values.length
  const [mx, my] = [mean(xs), mean(ys)]
  const product = (as: readonly number[], a: number, bs: readonly number[], b: number) =>
    mean(as.map((value, i) => (value - a) * (bs[i]! - b)))
  return product(xs, mx, ys, my) / Math.sqrt(product(xs, mx, xs, mx) * product(ys, my, ys, my))
}

const lives = Promise.all(Array.from({ length: sources }, (_, i) => live(i)))
void lives.then(() => void (over = true))
await time.run(() => over)
const all = await lives
for (const large of [false, true]) {
  const lived = all.filter(each => each.large === large)
  const answers = lived.map(each => each.answers)
  const refused = lived.reduce((sum, each) => sum + each.refused, 0)
  const asked = refused + answers.reduce((sum, count) => sum + count, 0)
  const longestS = Math.max(...lived.map(({ longestMs }) => longestMs)) / 1000
  const what = large ? `${STAGES} devices` : 'one device'
  process.stdout.write(
    `${lived.length} sources that want ${what}: ${Math.min(...answers)} to ${Math.max(...answers)} answers each, Jain's index ` +
      `${jain(answers).toFixed(3)}; none for ${longestS.toFixed(0)} s at most; ${((100 * refused) / asked).toFixed(1)} % refused\n`
  )
}
if (values.sticky) {
  const small = all.filter(({ large }) => !large)
  const fair = maxMinFair(
    small.map(({ waitsFor }) => waitsFor),
    usedMs
  ).map(ms => ms / (1000 * answerS))
  process.stdout.write(
    `max-min fair among those that want one device, each waiting for its own: ${Math.min(...fair).toFixed(0)} to ${Math.max(...fair).toFixed(0)}, ` +
      `Jain's index ${jain(fair).toFixed(3)}; correlation with what they had ${correlation(
        fair,
        small.map(({ answers }) => answers)
      ).toFixed(3)}\n`
  )
}
const sum = (large: boolean) =>
  all.filter(each => each.large === large).reduce((total, { answers }) => total + answers, 0)
const busyShare = ((sum(false) + STAGES * sum(true)) * answerS) / (SERVERS * minutes * 60)
process.stdout.write(
  `${sum(false) + sum(true)} answers, which took ${(100 * busyShare).toFixed(0)} % of the devices' time\n`
)
const wrong = servers.flatMap(({ violations }) => violations)
if (wrong.length > 0) throw new Error(wrong[0])
