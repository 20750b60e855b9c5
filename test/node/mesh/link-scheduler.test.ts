import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { linkMatrix } from '../../../node/mesh/link-matrix.ts'
import { LinkScheduler } from '../../../node/mesh/link-scheduler.ts'
import { LinkTable } from '../../../node/mesh/link-table.ts'
import { recordEntries } from '../../../protocols/directory/record.ts'
import { DeadlineError, PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import type { LinkService } from '../../../protocols/links/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const sure = { outMbps: 50, inMbps: 40, rttMs: 1, spread: 0.01, cost: 1, isStarved: false }
const MINUTE_MS = 60_000

/** A scheduler of node `a` whose measurements are the test's; each takes a tenth of a second. */
function scheduler(
  peers: string[],
  measure: (peerId: string) => typeof sure | Promise<typeof sure> = () => sure,
  glance: LinkService['glance'] = () => Promise.reject(new Error('nothing was doubted')),
  isBusy = () => false,
  importance = () => 0
) {
  const asked: string[] = []
  /** Those of them that were measured roughly. */
  const rough: string[] = []
  const weights = { bytes: 0 }
  let running = 0
  let most = 0
  const table = new LinkTable()
  const links = new LinkScheduler({
    peerId: 'b',
    table,
    connected: () => peers,
    weightBytes: () => weights.bytes,
    isBusy,
    importance,
    onMeasured() {},
    service: {
      glance,
      async measure(peerId, { roughly } = {}) {
        asked.push(peerId)
        if (roughly) rough.push(peerId)
        most = Math.max(most, ++running)
        await new Promise(resolve => setTimeout(resolve, 100))
        running--
        return measure(peerId)
      }
    }
  })
  for (const peerId of peers) links.connected(peerId)
  links.start()
  return { links, table, asked, rough, weights, most: () => most }
}

test('of a pair the smaller id measures, one link at a time, and again when the estimate is old', async () => {
  const { links, asked, most } = scheduler(['a', 'c', 'd'])
  await vi.advanceTimersByTimeAsync(5000)
  expect(asked.toSorted()).toEqual(['c', 'd'])
  expect(most()).toBe(1)
  await vi.advanceTimersByTimeAsync(29 * MINUTE_MS)
  expect(asked.length).toBe(2)
  await vi.advanceTimersByTimeAsync(2 * MINUTE_MS)
  expect(asked.length).toBe(4)
  links.stop()
})

const HOUR_MS = 60 * MINUTE_MS

test('a link that nothing uses and that stays as it is costs an idle day a few measurements, and a used one what it did', async () => {
  const idle = scheduler(['c'])
  const used = scheduler(['c'], undefined, undefined, undefined, () => 2)
  await vi.advanceTimersByTimeAsync(24 * HOUR_MS)
  expect(idle.asked.length).toBeLessThan(8)
  expect(used.asked.length).toBeGreaterThan(40)
  idle.links.stop()
  used.links.stop()
})

test('a plan that asks for a link has it measured again as soon as it is old', async () => {
  const { links, asked } = scheduler(['c'])
  await vi.advanceTimersByTimeAsync(9 * HOUR_MS)
  const before = asked.length
  void links.measureMissing(['c'])
  await vi.advanceTimersByTimeAsync(31 * MINUTE_MS)
  expect(asked.length).toBe(before + 1)
  links.stop()
})

test('a link that was another one than before is measured again as soon as one that is new', async () => {
  let mbps = 100
  const { links, asked } = scheduler(['c'], () => ({ ...sure, outMbps: mbps, inMbps: mbps }))
  await vi.advanceTimersByTimeAsync(2 * HOUR_MS)
  mbps = 10
  await vi.advanceTimersByTimeAsync(2 * HOUR_MS)
  const found = asked.length
  await vi.advanceTimersByTimeAsync(HOUR_MS)
  expect(asked.length).toBeGreaterThan(found)
  links.stop()
})

test('bursts that did not agree are measured again soon, and ever more seldom', async () => {
  const { links, asked } = scheduler(['c'], () => ({ ...sure, spread: 0.4 }))
  await vi.advanceTimersByTimeAsync(25_000)
  expect(asked.length).toBe(2)
  await vi.advanceTimersByTimeAsync(10 * MINUTE_MS)
  expect(asked.length).toBeGreaterThan(4)
  expect(asked.length).toBeLessThan(9)
  links.stop()
})

test('a link that is faster than any plan needs is not measured again, whatever its bursts and devices did', async () => {
  const { links, asked } = scheduler(['c'], () => ({
    ...sure,
    ...{ outMbps: 600, inMbps: 900, spread: 0.4, isStarved: true }
  }))
  await vi.advanceTimersByTimeAsync(20 * MINUTE_MS)
  expect(asked.length).toBe(1)
  links.stop()
})

test('a link that a starved device finds fast is measured again while something slower is believed of it', async () => {
  const fast = { ...sure, outMbps: 600, inMbps: 900 }
  const { links, asked, table } = scheduler(['c'], () =>
    asked.length === 1 ? sure : { ...fast, isStarved: asked.length === 2 }
  )
  await vi.advanceTimersByTimeAsync(31 * MINUTE_MS)
  expect(asked.length).toBe(3)
  expect(table.row.c).toMatchObject({ outMbps: 600, inMbps: 900 })
  links.stop()
})

test('a busy peer is asked again, and what is known of it stays', async () => {
  let busy = true
  const { links, asked, table } = scheduler(['c'], () => {
    if (busy) throw new RemoteError('c', 'busy', 'tokens flow')
    return sure
  })
  await vi.advanceTimersByTimeAsync(20_000)
  expect(asked.length).toBeGreaterThan(3)
  expect(table.ageMs('c')).toBe(Number.POSITIVE_INFINITY)
  busy = false
  await vi.advanceTimersByTimeAsync(5000)
  expect(table.row.c).toMatchObject({ outMbps: 50, inMbps: 40 })
  links.stop()
})

test('a peer that is busy whenever bursts were sent is tried no more often than the hour allows', async () => {
  const { links, asked } = scheduler(['c'], () => {
    throw new RemoteError('c', 'interrupted', 'the peer is busy')
  })
  await vi.advanceTimersByTimeAsync(50 * MINUTE_MS)
  expect(asked.length).toBeGreaterThan(1)
  expect(asked.length).toBeLessThanOrEqual(12)
  links.stop()
})

test('before a plan what was never measured is measured, whoever is the smaller one; busy peers hold it up 3 s', async () => {
  vi.useRealTimers()
  const { links, asked, table } = scheduler(['a', 'c', 'gone'], peerId => {
    if (peerId === 'gone') throw new PeerLostError(peerId, 'gone')
    if (peerId === 'c') throw new RemoteError('c', 'busy', 'tokens flow')
    return sure
  })
  await links.measureMissing(['a', 'c', 'gone'])
  expect(table.ageMs('a')).toBeLessThan(Number.POSITIVE_INFINITY)
  expect(asked.filter(peerId => peerId === 'a').length).toBe(1)
  expect(asked.filter(peerId => peerId === 'c').length).toBeGreaterThan(1)
  await links.measureMissing(['a'])
  expect(asked.filter(peerId => peerId === 'a').length).toBe(1)
  links.stop()
})

test('what is measured for a plan is measured roughly, and exactly soon after by the smaller one', async () => {
  const { links, asked, rough } = scheduler(['a', 'c'])
  await Promise.all([links.measureMissing(['a', 'c']), vi.advanceTimersByTimeAsync(500)])
  expect([asked, rough]).toEqual([
    ['a', 'c'],
    ['a', 'c']
  ])
  await vi.advanceTimersByTimeAsync(20_000)
  expect([asked, rough]).toEqual([
    ['a', 'c', 'c'],
    ['a', 'c']
  ])
  await vi.advanceTimersByTimeAsync(20 * MINUTE_MS)
  expect(asked.length).toBe(3)
  links.stop()
})

test('what the other side has measured is not measured again for a plan', async () => {
  const { links, table, asked } = scheduler(['a'])
  table.probedIn('a', { mbps: 40, spread: 0.01, isStarved: false })
  const waiting = links.measureMissing(['a'])
  await vi.advanceTimersByTimeAsync(500)
  await waiting
  expect(asked).toEqual(['a'])
  const other = scheduler(['a'])
  other.table.probedIn('a', { mbps: 40, spread: 0.01, isStarved: false })
  other.table.heard('a', { outMbps: 40, inMbps: 50, rttMs: 1, spread: 0.01, ageMs: 1000 })
  await other.links.measureMissing(['a'])
  expect(other.asked).toEqual([])
  links.stop()
  other.links.stop()
})

test('while weights move links are measured for none but who waits, and what is prefetched holds up nothing', async () => {
  const { links, asked, weights } = scheduler(['a', 'c'])
  const moving = setInterval(() => {
    weights.bytes += 200_000
  }, 50)
  await vi.advanceTimersByTimeAsync(10_000)
  expect(asked).toEqual([])
  await Promise.all([links.measureMissing(['a']), vi.advanceTimersByTimeAsync(500)])
  expect(asked).toEqual(['a'])
  clearInterval(moving)
  const prefetched = setInterval(() => {
    weights.bytes += 50_000
  }, 50)
  await vi.advanceTimersByTimeAsync(2000)
  expect(asked).toEqual(['a', 'c'])
  clearInterval(prefetched)
  links.stop()
})

test('weights that a peer fetches without end keep no link from being measured', async () => {
  const { links, asked, weights } = scheduler(['c'])
  const moving = setInterval(() => {
    weights.bytes += 200_000
  }, 50)
  await vi.advanceTimersByTimeAsync(9 * MINUTE_MS)
  expect(asked).toEqual([])
  await vi.advanceTimersByTimeAsync(2 * MINUTE_MS)
  expect(asked).toEqual(['c'])
  clearInterval(moving)
  links.stop()
})

test('a measurement that hangs holds up neither a cancelled prompt nor, once it failed, the next plan', async () => {
  vi.useRealTimers()
  const { links, asked } = scheduler(['hung', 'a', 'slow'], peerId => {
    if (peerId === 'hung') return new Promise(() => {})
    throw new DeadlineError('too slow')
  })
  await links.measureMissing(['slow'])
  await links.measureMissing(['slow'])
  expect(asked).toEqual(['slow'])
  const cancelled = (peerId: string) => {
    const cancel = new AbortController()
    const waiting = links.measureMissing([peerId], cancel.signal)
    setTimeout(() => cancel.abort(new Error('cancelled')), 200)
    return waiting
  }
  await expect(cancelled('hung')).rejects.toThrow('cancelled')
  await expect(cancelled('a')).rejects.toThrow('cancelled')
  expect(asked).toEqual(['slow', 'hung'])
  links.stop()
})

test('a link too slow to be measured is taken for a slow one until somebody has measured it', async () => {
  let slow = true
  const { links, table } = scheduler(['c'], () => {
    if (slow) throw new DeadlineError('too slow')
    return sure
  })
  await vi.advanceTimersByTimeAsync(5000)
  expect(table.row.c).toMatchObject({ outMbps: 0.5, inMbps: 0.5, spread: 1 })
  expect(recordEntries.links.safeParse([peerIdOf('c'), table.row.c]).success).toBe(true)
  const theirs = { b: { outMbps: 50, inMbps: 40, rttMs: 1, spread: 0.01, ageMs: MINUTE_MS } }
  const rows = new Map([
    ['b', table.row],
    ['c', theirs]
  ])
  expect(linkMatrix(rows).map(({ mbps }) => mbps)).toEqual([40, 50])
  for (let i = 0; i < 3; i++) table.transferred('c', { bytes: 1e6, ms: 100 })
  expect(table.row.c).toMatchObject({ outMbps: 0.5, inMbps: 80, observed: true })
  slow = false
  await vi.advanceTimersByTimeAsync(2 * MINUTE_MS)
  expect(table.row.c).toMatchObject({ outMbps: 50, inMbps: 40 })
  table.tooSlow('c')
  expect(table.row.c).toMatchObject({ outMbps: 50, inMbps: 40 })
  links.stop()
})

test('a link that could not be measured in time is left alone for a minute', async () => {
  const { links, asked } = scheduler(['c'], () => {
    throw new DeadlineError('too slow')
  })
  await vi.advanceTimersByTimeAsync(30_000)
  expect(asked.length).toBe(1)
  await vi.advanceTimersByTimeAsync(90_000)
  expect(asked.length).toBeGreaterThan(1)
  links.stop()
})

test('a link that a starved device measured is measured again soon, and what was measured well stays meanwhile', async () => {
  let isStarved = true
  const { links, asked, table } = scheduler(['c'], () =>
    isStarved ? { ...sure, outMbps: 12, inMbps: 29, isStarved } : sure
  )
  await vi.advanceTimersByTimeAsync(5000)
  expect(table.row.c).toMatchObject({ inMbps: 29, starved: true })
  isStarved = false
  await vi.advanceTimersByTimeAsync(15_000)
  expect(asked.length).toBe(2)
  expect(table.row.c).toMatchObject({ inMbps: 40 })
  expect(table.row.c!.starved).toBeUndefined()
  isStarved = true
  await vi.advanceTimersByTimeAsync(31 * MINUTE_MS)
  expect(asked.length).toBeGreaterThan(2)
  expect(table.row.c).toMatchObject({ inMbps: 40 })
  links.stop()
})

test.each([
  ['finds nothing new', { mbps: 40, isStarved: false }],
  ['is starved', { mbps: 4, isStarved: true }]
])(
  'a doubted link is looked at ever more seldom where who looks %s, and measured once it was news',
  async (_, found) => {
    const glance = { spread: 0, isLeast: false, rttMs: 1, ...found }
    const looks: number[] = []
    const { links, asked, table } = scheduler(
      ['c'],
      () => sure,
      async () => {
        looks.push(performance.now())
        return glance
      }
    )
    await vi.advanceTimersByTimeAsync(5000)
    const doubting = setInterval(() => links.doubt('c'), 50)
    await vi.advanceTimersByTimeAsync(2 * MINUTE_MS)
    const pauses = looks.slice(1).map((ms, i) => ms - looks[i]!)
    expect(pauses.length).toBeGreaterThan(2)
    for (const [i, pause] of pauses.slice(1).entries()) expect(pause).toBeGreaterThan(1.5 * pauses[i]!)
    expect(asked.length).toBe(1)
    Object.assign(glance, { mbps: 4, isStarved: false })
    await vi.advanceTimersByTimeAsync(3 * MINUTE_MS)
    clearInterval(doubting)
    expect(asked.length).toBeGreaterThan(1)
    expect(table.row.c).toMatchObject({ outMbps: 50 })
    links.stop()
  }
)

test('while tokens flow a device that has just joined is looked at both ways, once, and measured when they have ended', async () => {
  let flows = true
  const looks: (boolean | undefined)[] = []
  const rough = { mbps: 9, spread: 0.1, isLeast: false }
  const { links, asked, table } = scheduler(
    ['a', 'c'],
    peerId => {
      if (flows) throw new RemoteError(peerId, 'busy', 'tokens flow')
      return sure
    },
    async (_, { isBothWays } = {}) => {
      looks.push(isBothWays)
      return { ...rough, rttMs: 2, isStarved: false, out: { ...rough, mbps: 8 } }
    },
    () => flows
  )
  await vi.advanceTimersByTimeAsync(1500)
  expect(looks).toEqual([true, true])
  for (const peerId of ['a', 'c']) expect(table.row[peerId]).toMatchObject({ outMbps: 8, inMbps: 9 })
  await vi.advanceTimersByTimeAsync(MINUTE_MS)
  expect(looks.length).toBe(2)
  flows = false
  await vi.advanceTimersByTimeAsync(MINUTE_MS)
  // Of a pair the smaller id measures.
  expect(asked).not.toContain('a')
  expect(table.row.c).toMatchObject({ outMbps: 50, inMbps: 40 })
  links.stop()
})

test('who decides while tokens flow has links looked at of which nothing is known, once', async () => {
  const rough = { mbps: 9, spread: 0.1, isLeast: false, rttMs: 2, isStarved: false }
  const looked: string[] = []
  const glance = async (peerId: string) => {
    looked.push(peerId)
    await new Promise(resolve => setTimeout(resolve, 100))
    if (peerId === 'd') throw new RemoteError('d', 'busy', 'tokens flow')
    return { ...rough, out: rough }
  }
  const { links, table } = scheduler(['c', 'd', 'e'], undefined, glance, () => true)
  const looks = Promise.all([links.glanceAt(['c', 'd']), links.glanceAt(['c', 'e'])])
  await Promise.all([looks, vi.advanceTimersByTimeAsync(400)])
  expect(looked.toSorted()).toEqual(['c', 'd', 'e'])
  expect(Object.keys(table.row).toSorted()).toEqual(['c', 'e'])
  await links.glanceAt(['c', 'd', 'e'])
  expect(looked.length).toBe(3)
  const aborted = AbortSignal.abort(new Error('over'))
  await expect(links.glanceAt(['c'], aborted)).rejects.toThrow('over')
  links.stop()
})

test.each(['tokens flow', 'weights move'])(
  'a link that comes into use hours after it was measured is looked at at once while %s, at either end, and then no more for long',
  async what => {
    const found = { mbps: 38, spread: 0.1, isLeast: false, rttMs: 1, isStarved: false }
    const looks: string[] = []
    const glance = async (peerId: string) => {
      looks.push(peerId)
      return found
    }
    let isUsed = false
    const isBusy = () => isUsed && what === 'tokens flow'
    const importance = () => (isUsed ? 2 : 1)
    const measure = (peerId: string) => {
      if (isBusy()) throw new RemoteError(peerId, 'busy', 'tokens flow')
      return sure
    }
    const { links, table, weights } = scheduler(['a', 'c'], measure, glance, isBusy, importance)
    const flow = setInterval(() => {
      if (isUsed && what === 'weights move') weights.bytes += 4 << 20
    }, 250)
    const measuredByIt = () => {
      table.probedIn('a', { mbps: 40, spread: 0.01, isStarved: false })
      table.heard('a', { outMbps: 40, inMbps: 50, rttMs: 1, spread: 0.01, ageMs: 0 })
    }
    measuredByIt()
    await vi.advanceTimersByTimeAsync(4 * HOUR_MS)
    measuredByIt()
    await vi.advanceTimersByTimeAsync(2 * HOUR_MS)
    expect(looks).toEqual([])
    isUsed = true
    await vi.advanceTimersByTimeAsync(1500)
    expect(looks.toSorted()).toEqual(['a', 'c'])
    await vi.advanceTimersByTimeAsync(5 * MINUTE_MS)
    expect(looks.length).toBe(2)
    expect(table.row.a!.inMbps).toBe(40)
    found.mbps = 5
    await vi.advanceTimersByTimeAsync(26 * MINUTE_MS)
    if (what === 'tokens flow') expect([table.row.a!.inMbps, table.row.c!.inMbps]).toEqual([5, 5])
    clearInterval(flow)
    links.stop()
  }
)

test('a link that comes into use hours after it was measured is measured at once where nothing flows', async () => {
  let isUsed = false
  const { links, asked, table } = scheduler(['c'], undefined, undefined, undefined, () => (isUsed ? 2 : 1))
  await vi.advanceTimersByTimeAsync(6 * HOUR_MS)
  expect(table.ageMs('c')).toBeGreaterThan(2 * HOUR_MS)
  const before = asked.length
  isUsed = true
  await vi.advanceTimersByTimeAsync(1000)
  expect(asked.length).toBe(before + 1)
  expect(table.ageMs('c')).toBeLessThan(MINUTE_MS)
  links.stop()
})

test('a link in use that is too fast to be timed is looked at ever more seldom while tokens flow', async () => {
  const least = { mbps: 98, spread: 0, isLeast: true, rttMs: 1, isStarved: false }
  let [flows, looks] = [false, 0]
  const glance = async () => {
    looks++
    return least
  }
  const measure = (peerId: string) => {
    if (flows) throw new RemoteError(peerId, 'busy', 'tokens flow')
    return { ...sure, outMbps: 900, inMbps: 900 }
  }
  const isBusy = () => flows
  const { links, table } = scheduler(['c'], measure, glance, isBusy, () => (flows ? 2 : 1))
  await vi.advanceTimersByTimeAsync(3 * HOUR_MS)
  flows = true
  await vi.advanceTimersByTimeAsync(HOUR_MS)
  expect(looks).toBeGreaterThan(5)
  expect(looks).toBeLessThan(22)
  expect(table.row.c!.inMbps).toBe(900)
  links.stop()
})

test('a peer that says nothing when it is looked at holds up no other look', async () => {
  const rough = { mbps: 9, spread: 0.1, isLeast: false, rttMs: 2, isStarved: false }
  const silent = ['c', 'f']
  let [underWay, most] = [0, 0]
  const glance = async (peerId: string) => {
    most = Math.max(most, ++underWay)
    await new Promise(resolve => setTimeout(resolve, silent.includes(peerId) ? 20_000 : 100))
    underWay--
    if (silent.includes(peerId)) throw new DeadlineError('it said nothing')
    return { ...rough, out: rough }
  }
  const others = ['c', 'd', 'e', 'f', 'g']
  const { links, table } = scheduler(others, undefined, glance, () => true)
  const looks = links.glanceAt(['c', 'd', 'e'])
  await vi.advanceTimersByTimeAsync(200)
  expect(Object.keys(table.row).toSorted()).toEqual(['d', 'e'])
  await vi.advanceTimersByTimeAsync(800)
  await looks
  // In rounds, where nobody waits for it.
  await vi.advanceTimersByTimeAsync(2000)
  expect(Object.keys(table.row).toSorted()).toEqual(['d', 'e', 'g'])
  expect(underWay).toBe(2)
  const many = Array.from({ length: 20 }, (_, i) => `x${i}`)
  silent.push(...many)
  const more = links.glanceAt(many)
  await vi.advanceTimersByTimeAsync(1000)
  await more
  expect(most).toBe(8)
  links.stop()
})

test('a look takes the place of nothing that the peer has measured meanwhile', async () => {
  const rough = { mbps: 9, spread: 0.1, isLeast: false }
  const { links, table } = scheduler(
    ['a'],
    () => sure,
    async () => {
      table.probedIn('a', { mbps: 40, spread: 0.01, isStarved: false })
      table.heard('a', { outMbps: 40, inMbps: 50, rttMs: 1, spread: 0.01, ageMs: 0 })
      return { ...rough, rttMs: 2, isStarved: false, out: { ...rough, mbps: 8 } }
    },
    () => true
  )
  await vi.advanceTimersByTimeAsync(1500)
  expect(table.row.a).toMatchObject({ outMbps: 50, inMbps: 40 })
  links.stop()
})

test('a link that is too fast to be timed by a look stays one of which nothing is known', async () => {
  let looks = 0
  const fast = { mbps: 98, spread: 0, isLeast: true }
  const { links, table } = scheduler(
    ['a'],
    () => sure,
    async () => {
      looks++
      return { ...fast, rttMs: 1, isStarved: false, out: fast }
    },
    () => true
  )
  await vi.advanceTimersByTimeAsync(2 * MINUTE_MS)
  expect([looks, table.row.a]).toEqual([1, undefined])
  const measuring = links.measureMissing(['a'])
  await vi.advanceTimersByTimeAsync(1000)
  await measuring
  expect(table.row.a).toMatchObject({ inMbps: 40 })
  links.stop()
})

test('a peer that lets nobody look both ways is asked ever more seldom, and nothing is made of it', async () => {
  let looks = 0
  const { links, table } = scheduler(
    ['c'],
    () => Promise.reject(new RemoteError('c', 'busy', 'tokens flow')),
    async () => {
      looks++
      throw new RemoteError('c', 'busy', 'tokens flow')
    },
    () => true
  )
  await vi.advanceTimersByTimeAsync(30 * MINUTE_MS)
  expect(looks).toBeGreaterThan(1)
  expect(looks).toBeLessThan(15)
  expect(table.row.c).toBeUndefined()
  links.stop()
})

test('a peer that says what no link can be is looked at ever more seldom, too', async () => {
  let looks = 0
  const { links, table } = scheduler(
    ['a'],
    () => sure,
    async () => {
      looks++
      const back = { mbps: 9, spread: 0, isLeast: false, rttMs: 1, isStarved: false }
      return { ...back, out: { mbps: 0, spread: 0, isLeast: true } }
    },
    () => true
  )
  await vi.advanceTimersByTimeAsync(30 * MINUTE_MS)
  expect(looks).toBeGreaterThan(1)
  expect(looks).toBeLessThan(15)
  expect(table.row.a).toBeUndefined()
  links.stop()
})

test('a peer that will not be looked at is asked again later, and nothing is made of it', async () => {
  const { links, table } = scheduler(
    ['c'],
    () => sure,
    () => Promise.reject(new RemoteError('c', 'busy', 'tokens flow'))
  )
  await vi.advanceTimersByTimeAsync(5000)
  links.doubt('c')
  await vi.advanceTimersByTimeAsync(MINUTE_MS)
  expect(table.row.c).toMatchObject({ inMbps: 40 })
  links.stop()
})

test('a peer that is lost again and again, or whose measurements fail, takes nothing of the hour from the others', async () => {
  const { links, asked, table } = scheduler(['c', 'd', 'e'], peerId => {
    if (peerId === 'c') throw new PeerLostError(peerId, 'gone')
    if (peerId === 'd') throw new Error('the link could not be timed')
    return sure
  })
  const flapping = setInterval(() => {
    links.disconnected('c')
    links.connected('c')
  }, 5000)
  await vi.advanceTimersByTimeAsync(20 * MINUTE_MS)
  const before = asked.length
  await links.measureMissing(['c', 'd'])
  expect(asked.length).toBe(before)
  await Promise.all([links.measureMissing(['f']), vi.advanceTimersByTimeAsync(500)])
  expect(table.ageMs('f')).toBeLessThan(MINUTE_MS)
  expect(asked.filter(peerId => peerId === 'c' || peerId === 'd').length).toBeLessThan(12)
  clearInterval(flapping)
  links.stop()
})

test('before a plan a measurement that fails is tried once', async () => {
  vi.useRealTimers()
  const { links, asked } = scheduler(['a'], () => {
    throw new Error('the link could not be timed')
  })
  await links.measureMissing(['a'])
  expect(asked).toEqual(['a'])
  links.stop()
})

test('of a peer that is back its old figures are assumed until it is measured', async () => {
  const { links, table } = scheduler(['c'])
  await vi.advanceTimersByTimeAsync(5000)
  links.stop()
  links.disconnected('c')
  expect(table.row).toEqual({})
  await vi.advanceTimersByTimeAsync(MINUTE_MS)
  links.connected('c')
  expect(table.row.c).toMatchObject({ outMbps: 50, inMbps: 40, rttMs: 1 })
  expect(table.row.c!.ageMs).toBeGreaterThanOrEqual(MINUTE_MS)
  expect(table.ageMs('c')).toBe(Number.POSITIVE_INFINITY)
  table.measured('c', { ...sure, outMbps: 5, inMbps: 4, isStarved: true })
  expect(table.row.c).toMatchObject({ outMbps: 5, inMbps: 4 })
})
