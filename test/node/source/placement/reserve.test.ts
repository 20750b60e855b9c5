import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import {
  type ReserveAllOptions,
  reserveAll,
  type Standing
} from '../../../../node/source/placement/reserve.ts'
import { LeaseTable } from '../../../../node/stage/lease-table.ts'
import { played, stopClock } from '../../simulation/clock.ts'
import { SimulatedTime } from '../../stage/simulated-time.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

/** A device that tells one source at a time that it is the first. */
class Device {
  readonly #standing: { tell: (isFirst: boolean) => void }[] = []

  stand(): Standing {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const one = { tell: resolve }
    this.#standing.push(one)
    this.#standing[0]!.tell(true)
    return {
      first: promise,
      leave: () => {
        resolve(false)
        const at = this.#standing.indexOf(one)
        if (at >= 0) this.#standing.splice(at, 1)
        this.#standing[0]?.tell(true)
      }
    }
  }
}

type Clock = Pick<ReserveAllOptions, 'now' | 'sleep'>

/** Sources of which each is the first on the first of its devices. @returns how many each has reserved */
function contend(ways: number[][], clock: Clock): Promise<number[]> {
  const devices = new Map([0, 1, 2, 3].map(id => [`d${id}`, new Device()]))
  const early = ways.map(([first]) => devices.get(`d${first}`)!.stand())
  const sources = ways.map(async (way, i) => {
    const entered = new Map([[`d${way[0]}`, early[i]!]])
    const stand = (device: string) => {
      const standing = entered.get(device) ?? devices.get(device)!.stand()
      entered.delete(device)
      return standing
    }
    const reserved = await reserveAll(
      way.map(id => `d${id}`),
      async device => device,
      { waitMs: 120_000, stand, ...clock }
    )
    return reserved.size
  })
  return Promise.all(sources)
}

test.each([
  [
    [0, 1],
    [1, 0]
  ],
  [
    [0, 1],
    [1, 2],
    [2, 0]
  ],
  [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [2, 3, 0, 1],
    [1, 0, 3, 2]
  ]
])(
  'sources that devices have seen come in other orders do not stand in each other’s way: %j %j',
  async (...ways) => {
    const startMs = performance.now()
    const reserved = await played(contend(ways, { now: () => performance.now() }))
    expect(reserved).toEqual(ways.map(way => way.length))
    expect(performance.now() - startMs).toBeLessThan(60_000)
  }
)

test('how long they stand there is by the clock that they are given, so that it can be simulated', async () => {
  const time = new SimulatedTime()
  const sleep = (ms: number, signal: AbortSignal) => time.sleep(ms, signal)
  const ways = [
    [0, 1],
    [1, 0]
  ]
  let reserved: number[] | undefined
  void contend(ways, { now: () => time.nowMs, sleep }).then(sizes => {
    reserved = sizes
  })
  await time.run()
  expect(reserved).toEqual([2, 2])
})

test('two sources that devices have seen come in other orders both get both devices, one after the other', async () => {
  const time = new SimulatedTime()
  const table = () => new LeaseTable({ budgetBytes: 100, termMs: 1e9, now: () => time.nowMs })
  const devices = new Map([
    ['x', table()],
    ['y', table()]
  ])
  const request = (source: string) => ({
    ...{ source, modelId: source, range: [0, 4] as const },
    ...{ weightBytes: 60, ownBytes: 40 }
  })
  /** Each is nearer to one of them, and stands there before the other comes. */
  const near = new Map([
    ['x', 'a'],
    ['y', 'b']
  ])
  const AWAY_MS = 1500
  const answered: { source: string; atMs: number }[] = []
  const answer = async (source: string) => {
    const reserved = await reserveAll(
      devices.keys(),
      async (id, waitMs, signal) => {
        const [lease] = (await devices.get(id)!.acquire([request(source)], { waitMs, signal }))!
        return lease!.id
      },
      {
        ...{ waitMs: 120_000, now: () => time.nowMs, sleep: (ms, signal) => time.sleep(ms, signal) },
        stand: (id, waitMs) => {
          const left = new AbortController()
          const { signal } = left
          const arrived = time.sleep(near.get(id) === source ? 0 : AWAY_MS)
          const first = arrived.then(() => devices.get(id)!.first([request(source)], { waitMs, signal }))
          return { first, leave: () => left.abort() }
        }
      }
    )
    for (const [id, lease] of reserved) devices.get(id)!.setIdle(lease, false)
    await time.sleep(1000)
    for (const [id, lease] of reserved) devices.get(id)!.release(lease)
    answered.push({ source, atMs: time.nowMs })
  }
  for (const source of near.values()) void answer(source)
  // Tables look for what has expired once a second, as a node does.
  for (let ms = 500; ms < 150_000; ms += 1000)
    time.at(ms, () => {
      for (const table of devices.values()) table.expire()
    })
  await time.run()
  expect(answered.map(({ source }) => source).sort()).toEqual(['a', 'b'])
  expect(Math.max(...answered.map(({ atMs }) => atMs))).toBeLessThan(15_000)
})
