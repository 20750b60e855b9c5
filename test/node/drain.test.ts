import { expect, test } from 'vitest'
import { Answers } from '../../node/answers.ts'
import type { NodeRecord } from '../../node/api.ts'
import { Drain, type DrainComponents } from '../../node/drain.ts'

type Models = NodeRecord['models']

interface Given {
  models?: Models
  peers?: Partial<NodeRecord>[]
  answers?: DrainComponents['answers']
}

function nodeWith({ models = [], peers = [], answers = { running: 0, accepted: 0 } }: Given = {}) {
  const said: unknown[] = []
  const serving = { draining: false, sessions: 0, sources: [] as string[] }
  const components: DrainComponents = {
    mesh: { update: change => void said.push(change) },
    peers: {
      self: { models } as NodeRecord,
      known: peers.map(record => ({
        record: record as NodeRecord,
        state: 'connected',
        connected: true,
        direct: true,
        suspect: false,
        rttMs: 1,
        lastSeenMs: 0
      })),
      nameOf: peerId => `name of ${peerId}`
    },
    serving,
    answers
  }
  return { drain: new Drain(components), said, serving, answers: answers as { running: number } }
}

const going = { signal: new AbortController().signal }

test('a drain is said to the mesh and to the serving role, once, and taken back', () => {
  const { drain, said, serving } = nodeWith()
  drain.begin()
  drain.begin()
  expect([drain.isDraining, serving.draining, said]).toEqual([true, true, [{ draining: true }]])
  drain.undo()
  expect([drain.isDraining, serving.draining, said[1]]).toEqual([false, false, { draining: undefined }])
})

test('it is over when no answer runs here, its own or another source’s', async () => {
  const { drain, serving, answers } = nodeWith()
  serving.sessions = 1
  answers.running = 1
  drain.begin()
  let over = false
  const finished = drain.finished({ ...going, handOver: false }).then(drained => {
    over = true
    return drained
  })
  await new Promise(setImmediate)
  expect(over).toBe(false)
  serving.sessions = 0
  await new Promise(setImmediate)
  expect(over).toBe(false)
  answers.running = 0
  expect(await finished).toBe(true)
})

test('it is not over while a request has answers to come', async () => {
  const answers = new Answers()
  const { drain } = nodeWith({ answers })
  const accepted = answers.accept()
  drain.begin()
  expect(drain.state.answers).toBe(1)
  let isOver = false
  const finished = drain.finished({ ...going, handOver: false }).finally(() => {
    isOver = true
  })
  // Answers come and go meanwhile.
  for await (const _ of answers.told((async function* () {})()));
  await new Promise(setImmediate)
  expect(isOver).toBe(false)
  accepted.over()
  accepted.over()
  expect(await finished).toBe(true)
  expect([drain.state.answers, answers.accepted]).toEqual([0, 0])
})

test('one that hands over waits for leases, too', async () => {
  const { drain, serving } = nodeWith()
  serving.sources = ['a']
  drain.begin()
  expect(await drain.finished({ ...going, handOver: false })).toBe(true)
  const finished = drain.finished({ ...going, handOver: true })
  expect(drain.state).toMatchObject({ draining: true, sources: [{ peerId: 'a', name: 'name of a' }] })
  serving.sources = []
  expect(await finished).toBe(true)
})

test('who waits hears that it was taken back, or that the time is over', async () => {
  const { drain, answers } = nodeWith()
  answers.running = 1
  drain.begin()
  expect(await drain.finished({ signal: AbortSignal.abort(), handOver: false })).toBe(false)
  const finished = drain.finished({ ...going, handOver: true })
  drain.undo()
  expect(await finished).toBe(false)
})

test('models of which only this device, of those that stay, has a layer are named', () => {
  const model = (name: string, layers: Models[number]['layers']): Models[number] => ({
    name,
    id: name.repeat(64).slice(0, 64),
    layers
  })
  const { drain } = nodeWith({
    models: [
      model('a', [[0, 4]]),
      model('b', [[0, 4]]),
      model('c', [[0, 4]]),
      { ...model('d', [[0, 4]]), name: 'd'.repeat(64) }
    ],
    peers: [
      { models: [model('a', [[0, 2]]), model('b', [[0, 3]])] },
      { models: [model('a', [[2, 4]])] },
      { models: [model('c', [[0, 4]])], draining: true }
    ]
  })
  expect(drain.state.onlyHere).toEqual(['b', 'c'])
})
