import { expect, test } from 'vitest'
import {
  LEASE_EXPIRY_CHECK_MS,
  LEASE_TERM_MS,
  MAX_REPLANS,
  WAIT_FOR_MEMORY_MS
} from '../../../node/constants.ts'
import { REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { Random } from '../../protocols/mutate.ts'
import { SimulatedServer, type Weather } from './simulated-server.ts'
import { SimulatedSource, type Wish } from './simulated-source.ts'
import { SimulatedTime } from './simulated-time.ts'

const SEED = 20_261_120
const STATED = ['BusyError', 'OfferRefusedError', 'PlanRefusedError', 'StageLostError', 'crash']

/** Tables look for what has expired once a second, as the node does. */
function expireRegularly(
  time: SimulatedTime,
  servers: readonly SimulatedServer[],
  isOver: () => boolean
): void {
  const look = () => {
    for (const server of servers) server.expire()
    if (!isOver()) time.at(LEASE_EXPIRY_CHECK_MS, look)
  }
  time.at(LEASE_EXPIRY_CHECK_MS, look)
}

const isEmpty = ({ table, budgetBytes }: SimulatedServer) =>
  table.waiting === 0 && table.state(() => 0).length === 0 && table.freeBytes === budgetBytes

test('50 sources, 20 servers, 10,000 requests with losses and crashes: the budget holds, every request ends', {
  timeout: deadlineMs(60_000)
}, async () => {
  const random = new Random(SEED)
  const time = new SimulatedTime()
  const weather: Weather = { loss: 0.01, maxDelayMs: 40 }
  const servers = Array.from(
    { length: 20 },
    (_, i) => new SimulatedServer(`s${i}`, 40 + random.below(160), time)
  )
  const wishes = Array.from({ length: 12 }, (_, i) => wishOf(`m${i % 4}`, 1 + random.below(4), random))
  const ends = new Map<string, number>()
  let begun = 0
  let ended = 0
  let longestMs = 0
  const requests = 10_000

  const live = async (id: string) => {
    const source = new SimulatedSource({
      id,
      servers,
      time,
      random,
      weather,
      answerMs: () => 500 + random.below(15_000),
      loadMs: () => 50 + random.below(4000)
    })
    while (begun < requests) {
      begun++
      const crash = new AbortController()
      if (random.next() < 0.02) time.at(random.below(20_000), () => crash.abort(new Error('crash')))
      const startMs = time.nowMs
      const how = await source.answer(random.pick(wishes), crash.signal).then(
        () => 'answered',
        (error: Error) => (error.message === 'crash' ? 'crash' : error.name)
      )
      ended++
      longestMs = Math.max(longestMs, time.nowMs - startMs)
      ends.set(how, (ends.get(how) ?? 0) + 1)
      if (how === 'crash') source.crash()
      else if (random.next() < 0.3) source.giveBack()
      await time.sleep(random.below(8000))
    }
    source.giveBack()
  }
  const crashes = () => {
    if (begun >= requests) return
    random.pick(servers).crash(1000 + random.below(20_000))
    time.at(random.below(40_000), crashes)
  }
  time.at(0, crashes)
  let over = false
  expireRegularly(time, servers, () => over)
  const lives = Promise.all(Array.from({ length: 50 }, (_, i) => live(`source${i}`)))
  void lives.then(() => time.at(LEASE_TERM_MS + WAIT_FOR_MEMORY_MS, () => void (over = true)))
  await time.run()

  const counts = [...ends].map(([how, count]) => `${how} ${count}`).join(', ')
  process.stderr.write(`leases: ${(time.nowMs / 60_000).toFixed(0)} simulated minutes; ${counts}\n`)
  expect(servers.flatMap(({ violations }) => violations)).toEqual([])
  expect(ended).toBe(begun)
  expect([...ends.keys()].filter(how => how !== 'answered' && !STATED.includes(how))).toEqual([])
  expect(ends.get('answered')).toBeGreaterThan(requests * 0.8)
  // Each plan may wait once, and each stage of it not answer once; then comes the answer itself.
  expect(longestMs).toBeLessThan((MAX_REPLANS + 1) * (WAIT_FOR_MEMORY_MS + 5 * REQUEST_TIMEOUT_MS) + 60_000)
  expect(servers.filter(server => !isEmpty(server)).map(({ id }) => id)).toEqual([])
})

test('50 sources that each want all there is take turns until each has had it', async () => {
  const random = new Random(SEED)
  const time = new SimulatedTime()
  const servers = Array.from({ length: 20 }, (_, i) => new SimulatedServer(`s${i}`, 100, time))
  const wish: Wish = {
    modelId: 'm',
    parts: Array.from({ length: 20 }, (_, i) => ({ range: [i * 100, i * 100 + 60], ownBytes: 40 }))
  }
  let over = false
  expireRegularly(time, servers, () => over)
  const weather: Weather = { loss: 0, maxDelayMs: 2 }
  const lives = Array.from({ length: 50 }, async (_, i) => {
    const init = { id: `source${i}`, servers, time, random, weather }
    const source = new SimulatedSource({ ...init, answerMs: () => 1000, loadMs: () => 100 })
    await source.answer(wish, new AbortController().signal)
    return time.nowMs
  })
  void Promise.allSettled(lives).then(() => time.at(2 * LEASE_TERM_MS, () => void (over = true)))
  await time.run(() => over)
  const doneMs = await Promise.all(lives)
  expect(servers.flatMap(({ violations }) => violations)).toEqual([])
  // One after the other, with little time between.
  expect(Math.max(...doneMs)).toBeLessThan(50 * 1300)
})

function wishOf(modelId: string, count: number, random: Random): Wish {
  return {
    modelId,
    parts: Array.from({ length: count }, (_, i) => {
      const start = i * 1000
      return { range: [start, start + 10 + 10 * random.below(6)], ownBytes: 1 + random.below(30) }
    })
  }
}
