/**
 * How even sources without a leader share devices that cannot serve all of them: real tables of leases and the real order of
 * reserving over simulated streams (test/node/stage/simulated-source.ts), with sources that ask again as soon as they are
 * answered or refused. Half of them want a model on one device, half on several.
 *
 *     npm run bench:fairness -- [--sources 100] [--minutes 60] [--answer-s 10] [--seed 1] [--sticky]
 *
 * With `--sticky` the same devices suit a source best each time, as where links differ; else all are alike. Prints, for both halves,
 * Jain's index of the answers of each source, the longest time that one had none, and the share of requests that were refused
 * after their wait; then all answers together, and what share of all devices' time they took.
 */
import { parseArgs } from 'node:util'
import { LEASE_EXPIRY_CHECK_MS } from '../../node/constants.ts'
import { SimulatedServer } from '../node/stage/simulated-server.ts'
import { SimulatedSource, type Wish } from '../node/stage/simulated-source.ts'
import { SimulatedTime } from '../node/stage/simulated-time.ts'
import { Random } from '../protocols/mutate.ts'

const { values } = parseArgs({
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
  answers: number
  refused: number
  /** The longest time from one answer to the next, or to the end. */
  longestMs: number
}

const random = new Random(seed)
const time = new SimulatedTime()
const servers = Array.from({ length: SERVERS }, (_, i) => new SimulatedServer(`s${i}`, 100, time))
let over = false
const expire = () => {
  for (const server of servers) server.expire()
  if (!over) time.at(LEASE_EXPIRY_CHECK_MS, expire)
}
time.at(LEASE_EXPIRY_CHECK_MS, expire)

async function live(index: number): Promise<Lived> {
  const large = index % 2 === 1
  const lived = { large, answers: 0, refused: 0, longestMs: 0 }
  // Its links to them are the same each time.
  const suits = new Map(servers.map(({ id }) => [id, random.next()]))
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
const sum = (large: boolean) =>
  all.filter(each => each.large === large).reduce((total, { answers }) => total + answers, 0)
const busyShare = ((sum(false) + STAGES * sum(true)) * answerS) / (SERVERS * minutes * 60)
process.stdout.write(
  `${sum(false) + sum(true)} answers, which took ${(100 * busyShare).toFixed(0)} % of the devices' time\n`
)
const wrong = servers.flatMap(({ violations }) => violations)
if (wrong.length > 0) throw new Error(wrong[0])
