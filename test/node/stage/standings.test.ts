import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { LeaseTable } from '../../../node/stage/lease-table.ts'

const request = (source: string) => ({
  ...{ source, modelId: source, range: [0, 4] as const },
  ...{ weightBytes: 60, ownBytes: 40 }
})

/** A table with room for one lease, a clock, and what sources were told or got, in order. */
class Played {
  readonly heard: string[] = []
  #nowMs = 0
  readonly leases = new LeaseTable({ budgetBytes: 100, termMs: 1e9, now: () => this.#nowMs })

  async wait(source: string, waitMs = 1e6): Promise<void> {
    await this.pass(2000)
    void this.leases
      .acquire([request(source)], { waitMs })
      .then(granted => this.heard.push(granted === undefined ? `${source} refused` : source))
    await this.pass(0)
  }

  /** @returns what makes it leave */
  async stand(source: string, waitMs = 1e6): Promise<() => Promise<void>> {
    await this.pass(2000)
    const left = new AbortController()
    void this.leases
      .first([request(source)], { waitMs, signal: left.signal })
      .then(isFirst => this.heard.push(`${source} ${isFirst ? 'is first' : 'is not first'}`))
    await this.pass(0)
    return async () => {
      left.abort()
      await this.pass(0)
    }
  }

  async pass(ms: number): Promise<void> {
    this.#nowMs += ms
    this.leases.expire()
    await new Promise(setImmediate)
  }

  /** A session opens on what is leased. */
  async use(): Promise<void> {
    for (const { id } of this.leases.state(() => 0)) this.leases.setIdle(id, false)
    await this.pass(0)
  }

  async giveBack(): Promise<void> {
    for (const { id } of this.leases.state(() => 0)) this.leases.release(id)
    await this.pass(0)
  }
}

test('who stands beside the line holds up nobody in it, and is the first once those before it have theirs', async () => {
  const played = new Played()
  await played.wait('has it')
  await played.use()
  await played.wait('earlier')
  await played.stand('several')
  await played.wait('later')
  expect(played.heard).toEqual(['has it'])
  await played.giveBack()
  // It may be held for as long as its source waits for other devices.
  expect(played.heard).toEqual(['has it', 'earlier'])
  await played.use()
  expect(played.heard).toEqual(['has it', 'earlier', 'several is first'])
  await played.wait('several')
  await played.giveBack()
  expect(played.heard.at(-1)).toBe('several')
})

test('one is the first at a time, until it goes; who has wanted it longer is the next, though it was refused between', async () => {
  const played = new Played()
  const leaves = [await played.stand('a'), await played.stand('b', 3000), await played.stand('c')]
  expect(played.heard).toEqual(['a is first'])
  await played.pass(3000)
  expect(played.heard).toEqual(['a is first', 'b is not first'])
  await played.stand('b')
  await leaves[0]!()
  expect(played.heard).toEqual(['a is first', 'b is not first', 'b is first'])
  await leaves[2]!()
  expect(played.heard.at(-1)).toBe('c is not first')
})

test('who comes back and has wanted it longer is told, too, while one that was told stands there, which may wait elsewhere', async () => {
  const played = new Played()
  const leave = await played.stand('a')
  await played.stand('longer', 3000)
  await played.pass(3000)
  await leave()
  await played.stand('newer')
  await played.stand('newest')
  expect(played.heard).toEqual(['a is first', 'longer is not first', 'newer is first'])
  await played.stand('longer')
  expect(played.heard.slice(3)).toEqual(['longer is first'])
})

test('where the first goes the next is told at once, though it comes back before leases are looked at', async () => {
  const { leases } = new Played()
  const heard: string[] = []
  const stand = (source: string, signal?: AbortSignal) =>
    void leases
      .first([request(source)], { waitMs: 1e6, ...(signal && { signal }) })
      .then(isFirst => heard.push(`${source} ${isFirst}`))
  const aside = new AbortController()
  stand('a', aside.signal)
  stand('b')
  aside.abort()
  stand('a')
  await new Promise(setImmediate)
  expect(heard).toContain('b true')
})

test('of two that came within a second the ids say who is before the other, so that it is the same one on each device', async () => {
  const told: string[][] = []
  for (const order of [
    ['x', 'y'],
    ['y', 'x']
  ]) {
    const played = new Played()
    await played.wait('has it')
    for (const source of order)
      void played.leases.first([request(source)], { waitMs: 1e6 }).then(() => told.push([source]))
    await played.use()
  }
  expect(told).toEqual([['x'], ['x']])
})

test('a source stands twice at once, and one that is too much asks like any other', async () => {
  const { leases } = new Played()
  await leases.acquire([request('has it')])
  const stand = (modelId: string) => leases.first([{ ...request('greedy'), modelId }], { waitMs: 1e6 })
  void stand('m1')
  void stand('m2')
  await expect(stand('m3')).resolves.toBe(false)
})

test('who wants more than there is, or than there is now, is before nobody', async () => {
  const played = new Played()
  const huge = { ...request('huge'), ownBytes: 41 }
  await expect(played.leases.first([huge], { waitMs: 1e6 })).resolves.toBe(false)
  await played.wait('has it')
  await played.stand('large')
  const small = { ...request('small'), weightBytes: 1, ownBytes: 1 }
  await played.pass(2000)
  const isFirst = played.leases.first([small], { waitMs: 1e6 })
  played.leases.lowerBudget(50)
  await played.giveBack()
  expect(played.heard).toEqual(['has it', 'large is not first'])
  await expect(isFirst).resolves.toBe(true)
})

test('a draft model, which makes room for whoever needs it, stands in the way of nobody', async () => {
  const played = new Played()
  const draft = { ...request('own'), weightBytes: 30, ownBytes: 10, yields: true }
  expect(played.leases.reserve([draft])).toHaveLength(1)
  await played.stand('several')
  expect(played.heard).toEqual(['several is first'])
})

test('one that stands here again and again on one stream leaves nothing behind on it', async () => {
  const { leases } = new Played()
  const { signal } = new AbortController()
  const stand = () => void leases.first([request('a')], { waitMs: -1, signal })
  for (let i = 0; i < 20; i++) {
    for (let j = 0; j < 3; j++) stand()
    leases.expire()
  }
  await new Promise(setImmediate)
  expect(getEventListeners(signal, 'abort')).toEqual([])
})
