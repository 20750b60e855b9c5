import { describe, expect, test } from 'vitest'
import type { MeshState } from '../../../node/api.ts'
import {
  devicesOf,
  howKnown,
  isUnsure,
  linksOf,
  modelName,
  nameOf,
  withNames
} from '../../../node/page/devices.ts'
import { withShortPeerIds } from '../../../node/page/format.ts'
import { ratesOf } from '../../../node/page/graph.ts'
import { labelShare, layoutOf } from '../../../node/page/layout.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { fakeNode, RESULT } from '../http/fake-node.ts'

const MESH = fakeNode().mesh()
const peer = (peerId: string, name: string, freeBytes = 100): MeshState['peers'][number] => ({
  ...MESH.self,
  peerId,
  name,
  memory: { budgetBytes: 100, freeBytes },
  state: 'connected',
  connected: true,
  suspect: false,
  rttMs: 1,
  lastSeenMs: 0
})
const placed = (sessions: number): MeshState['deployments'] => [
  {
    modelId: 'm',
    objective: 'latency',
    plan: { stages: [{ peerId: 'b', name: 'b', layers: [5, 10], weightBytes: 30 }] },
    predicted: RESULT.predicted,
    slots: 1,
    microBatches: 1,
    sessions
  }
]

describe('devices', () => {
  test('memory is weights and the rest while it is computed with, and kept warm when it is not', () => {
    const busy = devicesOf({ ...MESH, peers: [peer('b', 'laptop', 20)], deployments: placed(1) })[1]!
    expect(busy.memory).toEqual({
      budgetBytes: 100,
      usedBytes: 80,
      weightBytes: 30,
      otherBytes: 50,
      idleBytes: 0
    })
    expect(busy.layers).toEqual([[5, 10]])
    // The record of before the answer says that all is free still.
    const begun = devicesOf({ ...MESH, peers: [peer('b', 'laptop', 100)], deployments: placed(1) })[1]!
    expect(begun.memory).toMatchObject({ usedBytes: 30, weightBytes: 30, otherBytes: 0 })
    // What is idle counts as free.
    const idle = devicesOf({ ...MESH, peers: [peer('b', 'laptop', 100)], deployments: placed(0) })[1]!
    expect(idle.memory).toEqual({
      budgetBytes: 100,
      usedBytes: 30,
      weightBytes: 0,
      otherBytes: 0,
      idleBytes: 30
    })
  })

  test('names that several have are told apart, and stand for ids in sentences', () => {
    const devices = devicesOf({ ...MESH, peers: [peer('id-000001', 'pc'), peer('id-000002', 'pc')] })
    expect(devices.map(({ peerId }) => nameOf(devices, peerId))).toEqual(['desk', 'pc …000001', 'pc …000002'])
    expect(nameOf(devices, 'somebody-else')).toBe('…y-else')
    expect(withNames(devices, `id-000001 and ${MESH.self.peerId}, $& too`)).toBe(
      'pc …000001 and desk, $& too'
    )
  })

  test('a device that calls itself by the id of another one is not taken for it', () => {
    const devices = devicesOf({ ...MESH, peers: [peer('id-a', 'id-b'), peer('id-b', 'laptop')] })
    expect(withNames(devices, 'id-a and id-b')).toBe('id-b and laptop')
  })

  test('a link has both directions, measured or not', () => {
    const link = { from: 'b', to: MESH.self.peerId, mbps: 1, rttMs: 1, spread: 0, ageMs: 0 }
    const mesh = { ...MESH, peers: [peer('b', 'laptop'), peer('c', 'mini')], links: [link] }
    expect(linksOf(mesh, devicesOf(mesh), () => 7)).toEqual([
      { a: MESH.self.peerId, b: 'b', there: undefined, back: { ...link, ageMs: 7 } }
    ])
  })
})

describe('where cards stand', () => {
  test.each([
    [1, 300],
    [2, 300],
    [3, 300],
    [4, 520],
    [16, 300],
    [2, 640],
    [3, 480],
    [3, 440],
    [8, 440],
    [16, 440],
    [8, 480],
    [16, 640],
    [16, 1200]
  ])('%i of them in %i pixels: inside, and none on another', (count, width) => {
    const { middles, card, height } = layoutOf(count, width)
    expect(middles.length).toBe(count)
    for (const [i, { x, y }] of middles.entries()) {
      expect(x - card.width / 2).toBeGreaterThanOrEqual(0)
      expect(x + card.width / 2).toBeLessThanOrEqual(width)
      expect(y - card.height / 2).toBeGreaterThanOrEqual(0)
      expect(y + card.height / 2).toBeLessThanOrEqual(height)
      for (const other of middles.slice(i + 1)) {
        const isApart = Math.abs(other.x - x) >= card.width || Math.abs(other.y - y) >= card.height
        expect(isApart, `${i}: ${x} ${y} and ${other.x} ${other.y}`).toBe(true)
      }
    }
  })
})

test.each([
  [2, 440],
  [3, 440],
  [4, 520],
  [2, 340],
  [3, 340]
])('%i devices in %i pixels have each link’s figures between them, none on another', (count, width) => {
  const { hasRoom, middles, card, height } = layoutOf(count, width)
  expect(hasRoom).toBe(true)
  // The height of two lines, and the width of `956 / 976 Mbps`.
  const label = { width: 90, height: 29 }
  const labels = middles.flatMap((from, i) =>
    middles.slice(i + 1).map((to, n) => {
      const share = labelShare(count, i, i + 1 + n)
      return { ...label, x: from.x + share * (to.x - from.x), y: from.y + share * (to.y - from.y) }
    })
  )
  const isApart = (one: typeof label & { x: number; y: number }, other: typeof one) =>
    Math.abs(one.x - other.x) >= (one.width + other.width) / 2 ||
    Math.abs(one.y - other.y) >= (one.height + other.height) / 2
  const all = [...labels, ...middles.map(middle => ({ ...card, ...middle }))]
  for (const [i, one] of labels.entries())
    for (const other of all.slice(i + 1)) expect(isApart(one, other), JSON.stringify([one, other])).toBe(true)
  // The borders are reached: nothing is lost at a side.
  expect(Math.max(...middles.map(({ x }) => x)) + card.width / 2).toBeCloseTo(width - 4)
  expect(Math.max(...middles.map(({ y }) => y)) + card.height / 2).toBeLessThanOrEqual(height)
})

test('ids in what a node says are short, and nothing else is', () => {
  const id = peerIdOf('laptop')
  expect(withShortPeerIds(`laptop (${id}) is lost, 12D3KooW is no id`)).toBe(
    `laptop (…${id.slice(-6)}) is lost, 12D3KooW is no id`
  )
})

test('rates of both directions are as short as they can be', () => {
  expect(ratesOf(940, 940)).toEqual(['940 Mbps'])
  expect(ratesOf(956, 976)).toEqual(['956 / 976 Mbps'])
  expect(ratesOf(100, 1200)).toEqual(['100 Mbps', '1.2 Gbps'])
  expect(ratesOf(undefined, 7)).toEqual(['?', '7.0 Mbps'])
})

test('of a link it is said whether it was seen in its traffic, and whether it was measured under load', () => {
  expect(howKnown({ spread: 0.02 })).toBe('')
  expect(howKnown({ spread: 0.02, observed: true })).toBe('seen in its traffic')
  for (const link of [{ spread: 0.3 }, { spread: 0, starved: true }]) {
    expect(isUnsure(link)).toBe(true)
    expect(howKnown(link)).toBe('measured under load')
  }
})

test('a device’s memory is that of all its processors, which are named with it', () => {
  const [self] = devicesOf({
    ...MESH,
    self: {
      ...MESH.self,
      memory: { budgetBytes: 100, freeBytes: 50 },
      processors: [
        { kind: 'cpu', name: 'a processor', used: false, memory: { budgetBytes: 40, freeBytes: 40 } },
        { kind: 'gpu', name: 'a card', used: true }
      ]
    },
    deployments: []
  })
  expect(self!.memory).toMatchObject({ budgetBytes: 140, usedBytes: 50 })
  expect(self!.hardware).toMatch(/; stages on CPU 40 B, GPU 100 B$/)
})

test('a model is called as the device that imported it calls it, though this one keeps it by its id', () => {
  const id = 'c'.repeat(64)
  const held = (name: string) => [{ id, name, layers: [] }]
  const self = { ...MESH.self, models: held(id) }
  const other = { ...peer('b', 'laptop'), models: held('mine') }
  expect(modelName({ ...MESH, self, peers: [other] }, id)).toBe('mine')
  expect(modelName({ ...MESH, self, peers: [] }, id)).toBe('cccccccc')
})
