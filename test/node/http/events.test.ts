import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { GenerateEvent, LinkState, MeshState } from '../../../node/api.ts'
import { type Client, createClient } from '../../../node/client/index.ts'
import { AnswerWatch } from '../../../node/http/answer-watch.ts'
import { MAX_KEPT_EVENTS, MESH_INTERVAL_MS, STEP_INTERVAL_MS } from '../../../node/http/constants.ts'
import { EventFeed } from '../../../node/http/event-feed.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { changesBetween, toldOf } from '../../../node/http/mesh-changes.ts'
import { afterEvent, type MeshEvent } from '../../../node/mesh-events.ts'
import { ANSWER, fakeNode, RESULT } from './fake-node.ts'

const MESH = fakeNode().mesh()
const LINK: LinkState = { from: 'a', to: 'b', mbps: 940, rttMs: 0.4, spread: 0.02, ageMs: 1000 }
const PEER: MeshState['peers'][number] = {
  ...MESH.self,
  peerId: 'peer',
  name: 'laptop',
  state: 'connected',
  connected: true,
  suspect: false,
  rttMs: 0.4,
  lastSeenMs: 3
}

/** Everything that a follower knows after these events. */
const folded = (events: readonly MeshEvent[], mesh: MeshState = MESH) =>
  events.reduce<MeshState | undefined>(afterEvent, mesh)

describe('changes of the mesh', () => {
  test('time that passes and measurements that tremble are none', () => {
    const before = { ...MESH, peers: [PEER], links: [LINK] }
    const after = {
      ...MESH,
      self: { ...MESH.self, sequence: 9 },
      peers: [{ ...PEER, lastSeenMs: 900, rttMs: 0.9 }],
      links: [{ ...LINK, ageMs: 2000, mbps: 1050 }]
    }
    expect(changesBetween(before, after, 1000)).toEqual([])
  })

  test('a measurement that goes away little by little is one, once it is far from what was told', () => {
    let told: MeshState = { ...MESH, links: [LINK] }
    const rates: number[] = []
    for (let mbps = 930, ageMs = 2000; mbps >= 500; mbps -= 10, ageMs += 1000) {
      const events = changesBetween(told, { ...MESH, links: [{ ...LINK, mbps, ageMs }] }, 1000)
      rates.push(...events.map(event => (event.data as { link: LinkState }).link.mbps))
      told = toldOf(told, events, 1000)
    }
    // Each by more than a fifth below the one before it.
    expect(rates).toEqual([750, 590])
  })

  test('a link that was measured anew is one, even with the same outcome', () => {
    const before = { ...MESH, links: [{ ...LINK, ageMs: 60_000 }] }
    const after = { ...MESH, links: [{ ...LINK, ageMs: 300 }] }
    expect(changesBetween(before, after, 1000)).toEqual([{ type: 'link', data: { link: after.links[0] } }])
  })

  test.each<[string, Partial<MeshState>, Partial<MeshState>]>([
    ['a peer that comes', {}, { peers: [PEER] }],
    ['a peer that goes', { peers: [PEER] }, {}],
    ['a peer that is suspect', { peers: [PEER] }, { peers: [{ ...PEER, state: 'suspect', suspect: true }] }],
    ['its own memory', {}, { self: { ...MESH.self, memory: { budgetBytes: 8, freeBytes: 1 } } }],
    ['a link that is gone', { links: [LINK, { ...LINK, to: 'c' }] }, { links: [LINK] }],
    ['a fetch', {}, { fetches: [{ modelId: 'm', done: 1, total: 2, mbps: 3 }] }],
    [
      'a plan',
      {},
      {
        deployments: [
          {
            modelId: 'm',
            objective: 'latency',
            plan: RESULT.plan,
            predicted: RESULT.predicted,
            slots: 1,
            microBatches: 1,
            sessions: 0
          }
        ]
      }
    ],
    ['sessions and copies', {}, { sessions: 2, copies: [{ name: 'twin', address: '10.0.0.2' }] }]
  ])('%s: whoever knew the mesh before knows it after', (_, before, after) => {
    const from = { ...MESH, ...before }
    const to = { ...MESH, ...after }
    const events = changesBetween(from, to, 1000)
    expect(events.length).toBeGreaterThan(0)
    expect(folded(events, from)).toEqual(to)
  })
})

describe('what is told of answers', () => {
  let nowMs = 0
  const watch = (events: readonly GenerateEvent[], outcome: string, everyMs = 1) => {
    const sent: MeshEvent[] = []
    nowMs = 0
    const observer = new AnswerWatch(
      event => sent.push(event),
      () => nowMs
    ).begin()
    for (const event of events) {
      nowMs += everyMs
      observer.onEvent(event)
    }
    observer.onEnd(outcome)
    return sent
  }

  test('plan, steps and figures, and nothing of the text', () => {
    const sent = watch(ANSWER, 'stop', STEP_INTERVAL_MS)
    expect(sent.map(({ type }) => type)).toEqual(['load', 'answer', 'step', 'step', 'answer'])
    expect(sent.at(-1)).toMatchObject({ data: { outcome: 'stop', tokens: 3, result: { ttftMs: 12.5 } } })
    expect(JSON.stringify(sent)).not.toContain('Hello')
    expect(JSON.stringify(sent)).not.toContain('logprob')
  })

  test('answers that wait for one placement tell its progress once', () => {
    const sent: MeshEvent[] = []
    let nowMs = 0
    const answers = new AnswerWatch(
      event => sent.push(event),
      () => nowMs
    )
    const observers = Array.from({ length: 64 }, () => answers.begin())
    for (let done = 1; done <= 10; done++) {
      nowMs += STEP_INTERVAL_MS
      const event: GenerateEvent = { type: 'progress', phase: 'weights', peer: 'laptop', done, total: 10 }
      for (const observer of observers) observer.onEvent(event)
    }
    expect(sent.map(({ data }) => data)).toEqual(
      Array.from({ length: 10 }, (_, i) => ({
        ...{ answer: 0, phase: 'weights', peer: 'laptop' },
        ...{ done: i + 1, total: 10 }
      }))
    )
  })

  test('of many steps and much progress at most ten a second, but the last of each progress', () => {
    const text: GenerateEvent = { type: 'text', text: 'x', tokens: [1], logprobs: [] }
    const steps = watch(Array(1000).fill(text), 'length').filter(({ type }) => type === 'step')
    expect(steps.length).toBe(10)
    const weights = Array.from({ length: 1000 }, (_, i): GenerateEvent => {
      return { type: 'progress', phase: 'weights', peer: 'laptop', done: i + 1, total: 1000 }
    })
    const loads = watch(weights, 'stop').filter(({ type }) => type === 'load')
    expect(loads.length).toBe(11)
    expect(loads.at(-1)).toMatchObject({ data: { done: 1000 } })
  })

  test('a loss and what it took; an answer that is cancelled has no figures', () => {
    const spent = { detectMs: 1, planMs: 2, recruitMs: 3, rebuildMs: 4 }
    const sent = watch(
      [
        { type: 'recovery', peerId: 'peer', reason: 'silent' },
        { type: 'recovered', peerId: 'peer', spent }
      ],
      'cancelled'
    )
    expect(sent).toEqual([
      { type: 'recovery', data: { answer: 0, peerId: 'peer', reason: 'silent' } },
      { type: 'recovery', data: { answer: 0, peerId: 'peer', spent } },
      { type: 'answer', data: { answer: 0, outcome: 'cancelled', tokens: 0 } }
    ])
  })
})

describe('a feed', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const abort = new AbortController()
  const changing = () => {
    const node = fakeNode()
    let mesh = node.mesh()
    const looked = vi.fn(() => mesh)
    const change = (part: Partial<MeshState>) => {
      mesh = { ...mesh, ...part }
      vi.advanceTimersByTime(MESH_INTERVAL_MS)
    }
    return { feed: new EventFeed({ ...node, mesh: looked }), looked, change }
  }
  const idOf = (text: string) => /^id: (.*)$/m.exec(text)![1]!

  test('begins with the mesh, goes on with changes, and is silent where there are none', async () => {
    const { feed, change } = changing()
    const events = feed.follow(abort.signal)
    const first = (await events.next()).value
    expect(first).toMatch(/^id: \w+-0\nevent: mesh\ndata: \{.*\}\n\n$/)
    const next = events.next()
    let isThere = false
    void next.then(() => {
      isThere = true
    })
    change({})
    await Promise.resolve()
    expect(isThere).toBe(false)
    change({ sessions: 3 })
    expect((await next).value).toMatch(/^id: \w+-1\nevent: rest\ndata: \{"sessions":3\}\n\n$/)
    await events.return(undefined)
  })

  test('looks at the mesh once for all followers, and not at all for none', async () => {
    const { feed, looked } = changing()
    const followers = [feed.follow(abort.signal), feed.follow(abort.signal)]
    for (const events of followers) await events.next()
    looked.mockClear()
    vi.advanceTimersByTime(3 * MESH_INTERVAL_MS)
    expect(looked).toHaveBeenCalledTimes(3)
    for (const events of followers) await events.return(undefined)
    vi.advanceTimersByTime(3 * MESH_INTERVAL_MS)
    expect(looked).toHaveBeenCalledTimes(3)
  })

  test('goes on behind the last event that was seen, or with the mesh where that is too long ago', async () => {
    const { feed, change } = changing()
    const other = feed.follow(abort.signal)
    const seen = idOf((await other.next()).value!)
    change({ sessions: 1 })
    change({ sessions: 2 })
    const again = feed.follow(abort.signal, seen)
    const missed = (await again.next()).value!
    expect(missed.match(/"sessions":\d/g)).toEqual(['"sessions":1', '"sessions":2'])
    for (let i = 0; i <= MAX_KEPT_EVENTS; i++) change({ sessions: 3 + i })
    for (const id of [seen, 'elsewhere-1', 'x', `${seen}9999`]) {
      const late = feed.follow(abort.signal, id)
      expect((await late.next()).value).toContain('event: mesh\n')
      await late.return(undefined)
    }
    await again.return(undefined)
    await other.return(undefined)
  })
})

describe('over HTTP', () => {
  let server: HttpServer
  let client: Client
  let sessions = 0
  beforeEach(async () => {
    const node = fakeNode()
    sessions = 0
    server = await startHttpServer({
      node: { ...node, mesh: () => ({ ...node.mesh(), sessions }) },
      host: '127.0.0.1',
      port: 0
    })
    client = createClient({ url: server.url })
  })
  afterEach(() => server.stop())

  test('the client gives changes with their ids, or the mesh as it is after each', async () => {
    const changes = client.changes()
    const first = (await changes.next()).value!
    expect(first).toMatchObject({ type: 'mesh', data: MESH })
    sessions = 4
    const second = (await changes.next()).value!
    expect(second).toMatchObject({ type: 'rest', data: { sessions: 4 } })
    const later = client.changes({ lastEventId: first.id })
    expect((await later.next()).value).toEqual(second)
    const states = client.events()
    expect((await states.next()).value).toEqual({ ...MESH, sessions: 4 })
    sessions = 5
    expect((await states.next()).value).toEqual({ ...MESH, sessions: 5 })
    for (const events of [changes, later, states]) await events.return(undefined)
  })

  test('an answer for somebody else is told of', async () => {
    const changes = client.changes()
    await changes.next()
    await client.chat({ messages: [{ role: 'user', content: 'x' }] })
    const types: string[] = []
    while (types.filter(type => type === 'answer').length < 2) types.push((await changes.next()).value!.type)
    expect(types).toEqual(['load', 'answer', 'step', 'answer'])
    await changes.return(undefined)
  })
})
