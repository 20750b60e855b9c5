import { expect, test } from 'vitest'
import type { DeploymentState, LeaseState } from '../../../node/api.ts'
import { peersTable } from '../../../node/cli/commands/peers.ts'
import { isIdle } from '../../../node/cli/idle-leases.ts'
import { fakeNode } from '../http/fake-node.ts'

const state = fakeNode().mesh()
const { peerId } = state.self
const modelId = 'a'.repeat(64)
const memory = { budgetBytes: 100, freeBytes: 40 }
const lease = (source: string) => ({ modelId, layers: [0, 3] as [number, number], source })

const deployed = (on: string, sessions: number): DeploymentState[] => [
  {
    modelId,
    objective: 'latency',
    plan: { stages: [{ peerId: on, name: 'n', layers: [0, 3], weightBytes: 1 }] },
    predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
    slots: 4,
    microBatches: 1,
    sessions
  }
]

test('a lease of the node that is asked is idle while none of its answers runs there', () => {
  const device = { peerId: 'laptop', leases: [], memory }
  for (const sessions of [0, 1]) {
    const known = { ...state, deployments: deployed('laptop', sessions), leases: [] }
    expect(isIdle(lease(peerId), device, known)).toBe(sessions === 0)
  }
})

test('a lease of another one on the node that is asked is idle while no session runs on it', () => {
  const device = { peerId, leases: [], memory }
  for (const sessions of [0, 2]) {
    const held: LeaseState = { ...lease('laptop'), id: 'l', bytes: 1, sessions, expiresInMs: 1 }
    expect(isIdle(lease('laptop'), device, { ...state, deployments: [], leases: [held] })).toBe(
      sessions === 0
    )
  }
})

test('a lease between others is idle where all memory of its device can be had', () => {
  const known = { ...state, deployments: [], leases: [] }
  const on = (freeBytes: number) => ({ peerId: 'hall', leases: [], memory: { ...memory, freeBytes } })
  expect(isIdle(lease('laptop'), on(100), known)).toBe(true)
  expect(isIdle(lease('laptop'), on(99), known)).toBe(false)
})

test('that is the memory of all processors that the device has stages on', () => {
  const known = { ...state, deployments: [], leases: [] }
  const on = (freeBytes: number) => ({
    ...{ peerId: 'hall', leases: [], memory: { ...memory, freeBytes: 100 } },
    processors: [
      { kind: 'cpu', name: 'a CPU', used: false, memory: { ...memory, freeBytes } },
      { kind: 'gpu', name: 'a GPU', used: true }
    ]
  })
  expect(isIdle(lease('laptop'), on(100), known)).toBe(true)
  expect(isIdle(lease('laptop'), on(99), known)).toBe(false)
})

test('peers shows it as such, at its end, in every width', () => {
  const self = { ...state.self, leases: [lease(peerId)] }
  for (const columns of [undefined, 40]) {
    const idle = peersTable({ ...state, self, deployments: deployed(peerId, 0) }, columns)
    expect(idle.replaceAll(/\s+/g, ' ')).toMatch(/\[0, 3\) for \S+, idle/)
    const used = peersTable({ ...state, self, deployments: deployed(peerId, 1) }, columns)
    expect(used).not.toContain('idle')
  }
})
