import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { reserveAll, type Standing } from '../../../../node/source/placement/reserve.ts'
import { played, stopClock } from '../../simulation/clock.ts'

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
    const devices = new Map([0, 1, 2, 3].map(id => [`d${id}`, new Device()]))
    // The device at which each arrives first tells it that it is the first.
    const early = ways.map(([first]) => devices.get(`d${first}`)!.stand())
    const startMs = performance.now()
    const sources = ways.map(async (way, i) => {
      const entered = new Map([[`d${way[0]}`, early[i]!]])
      const stand = (device: string) => {
        const standing = entered.get(device) ?? devices.get(device)!.stand()
        entered.delete(device)
        return standing
      }
      const options = { waitMs: 120_000, now: () => performance.now(), stand }
      const reserved = await reserveAll(
        way.map(id => `d${id}`),
        async device => device,
        options
      )
      return reserved.size
    })
    expect(await played(Promise.all(sources))).toEqual(ways.map(way => way.length))
    expect(performance.now() - startMs).toBeLessThan(60_000)
  }
)
