import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { PlannedStage } from '../../../../node/api.ts'
import { deploy } from '../../../../node/source/placement/deploy.ts'
import type { Deployment } from '../../../../node/source/placement/deployment.ts'
import { repair } from '../../../../node/source/placement/repair.ts'
import { RefusedError } from '../../../../protocols/lease/index.ts'
import { played, settle, stopClock } from '../../simulation/clock.ts'
import type { SimulatedMesh } from '../../simulation/mesh.ts'
import { type Meeting, onMeeting } from '../../simulation/peers.ts'
import { MODEL, meshOf, needsOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const options = { signal: new AbortController().signal, emit() {} }
const request = {
  ...needsOf(MODEL, { newTokens: 100 }),
  known: [1, 2, 3],
  avoid: new Set<string>(),
  lost: undefined
}
const peersOf = (deployment: Deployment) => deployment.plan.stages.map(({ peerId }) => peerId)

/** A model on a, b and c; the devices besides are to spare. */
async function deployed(spare: string[]) {
  const mesh = meshOf(['a', 'b', 'c', ...spare])
  // So that they have no part in the first plan.
  for (const id of spare) mesh.get(id).decodeMs = 1.1
  const { peers, room } = mesh.get('a')
  const components = { ...mesh.get('a').source(), peers, room }
  const { deployment } = await played(deploy(components, request, { ...options, onSlow() {} }))
  expect(peersOf(deployment)).toEqual(['a', 'b', 'c'])
  const repaired = (over: Partial<typeof request> = {}) =>
    played(repair(components, deployment, { ...request, ...over }, options))
  return { mesh, deployment, repaired }
}

/** Its connections break, and all peers know. */
async function lose(mesh: SimulatedMesh, id: string): Promise<void> {
  mesh.vanish(id)
  await settle()
}

const layersOf = ({ plan }: Deployment) => plan.stages.map(({ layers }: PlannedStage) => layers)

async function expectAllGivenBack(mesh: SimulatedMesh, deployment: Deployment): Promise<void> {
  await played(deployment.release())
  await played(new Promise(resolve => setTimeout(resolve, 100)))
  expect(mesh.empty).toBe(true)
}

test('the device to spare gets the lost one’s layers, and the neighbours are told', async () => {
  const { mesh, deployment, repaired } = await deployed(['d'])
  const before = layersOf(deployment)
  await lose(mesh, 'b')
  expect(deployment.lostStage).toBe(1)
  expect(await repaired()).toMatchObject({ done: true })
  expect([peersOf(deployment), layersOf(deployment)]).toEqual([['a', 'd', 'c'], before])
  expect(deployment.ended).toBe(false)
  expect(mesh.get('c').peers.met.get('relink')).toBe(1)
  await expectAllGivenBack(mesh, deployment)
})

test('of several to spare it is the one with which the answer is finished soonest', async () => {
  const { mesh, deployment, repaired } = await deployed(['d', 'e', 'f'])
  mesh.get('d').decodeMs = 9
  mesh.get('e').decodeMs = 1
  mesh.get('f').decodeMs = 5
  await lose(mesh, 'c')
  expect(await repaired()).toMatchObject({ done: true })
  expect(peersOf(deployment)).toEqual(['a', 'b', 'e'])
  await expectAllGivenBack(mesh, deployment)
})

test('of several that are as fast it is one of the class of bits that the lost one had', async () => {
  const card = [{ kind: 'gpu', name: 'a card', used: true }]
  for (const [lost, taken] of [
    [undefined, 'e'],
    [card, 'd']
  ] as const) {
    const { mesh, deployment, repaired } = await deployed(['d', 'e'])
    deployment.plan.stages.forEach(stage => {
      if (lost !== undefined) stage.bitsClass = 'gpu'
    })
    mesh.get('d').processors = card
    await lose(mesh, 'b')
    expect(await repaired()).toMatchObject({ done: true })
    expect(peersOf(deployment)).toEqual(['a', taken, 'c'])
    await expectAllGivenBack(mesh, deployment)
  }
})

test('a device that failed the request already, or has not the memory, takes nobody’s place', async () => {
  const { mesh, deployment, repaired } = await deployed(['d', 'e'])
  await lose(mesh, 'b')
  mesh.get('e').saysFreeBytes = 1
  expect(await repaired({ avoid: new Set(['d']) })).toMatchObject({ done: false })
  expect(deployment.ended).toBe(true)
  await expectAllGivenBack(mesh, deployment)
})

test('a deployment that nothing has happened to, or that has lost two, is not repaired', async () => {
  const { mesh, deployment, repaired } = await deployed(['d', 'e'])
  expect(await repaired()).toEqual({ done: false, planMs: 0 })
  await lose(mesh, 'b')
  void mesh.silence('c', 0)
  expect(deployment.lostStage).toBeUndefined()
  expect(await repaired()).toEqual({ done: false, planMs: 0 })
  await expectAllGivenBack(mesh, deployment)
})

test.each<Meeting>(['connect', 'reserve', 'load'])(
  'a substitute that refuses at %s leaves the deployment as it was, to be placed anew',
  async what => {
    const { mesh, deployment, repaired } = await deployed(['d'])
    await lose(mesh, 'b')
    onMeeting(mesh.get('d'), what, () => {
      throw new RefusedError('expired', 'no')
    })
    expect(await repaired()).toMatchObject({ done: false })
    expect(peersOf(deployment)).toEqual(['a', 'b', 'c'])
    await expectAllGivenBack(mesh, deployment)
  }
)

test('a substitute whose memory is gone leaves it so, too', async () => {
  const { mesh, repaired } = await deployed(['d'])
  await lose(mesh, 'b')
  const { leases } = mesh.get('d').room
  mesh.get('d').saysFreeBytes = leases.budgetBytes
  leases.reserve([
    { source: 'x', modelId: 'x'.repeat(64), range: [0, 1], weightBytes: leases.budgetBytes, ownBytes: 0 }
  ])
  expect(await repaired()).toMatchObject({ done: false })
})

test('a model that was taken off its devices while one was repaired is given back whole', async () => {
  const { mesh, deployment, repaired } = await deployed(['d'])
  await lose(mesh, 'b')
  onMeeting(mesh.get('d'), 'load', () => void deployment.release())
  expect(await repaired()).toMatchObject({ done: false })
  await expectAllGivenBack(mesh, deployment)
})

test('another deployment that finishes the answer sooner is better than a slow substitute', async () => {
  const { mesh, deployment, repaired } = await deployed(['d'])
  mesh.get('d').decodeMs = 50_000
  mesh.add('large', { memoryBytes: 10 * mesh.get('a').room.leases.budgetBytes, decodeMs: 0.5 })
  mesh.get('large').saysFreeBytes = 0
  await lose(mesh, 'b')
  expect(await repaired()).toMatchObject({ done: false })
  await expectAllGivenBack(mesh, deployment)
})

test('one that finishes it hardly sooner is not: predictions are not that exact, and it would compute more anew', async () => {
  const { mesh, deployment, repaired } = await deployed(['d'])
  mesh.add('like d', { memoryBytes: mesh.get('a').room.leases.budgetBytes, decodeMs: 1 })
  mesh.get('like d').saysFreeBytes = 0
  await lose(mesh, 'b')
  expect(await repaired()).toMatchObject({ done: true })
  expect(peersOf(deployment)).toEqual(['a', 'd', 'c'])
  await expectAllGivenBack(mesh, deployment)
})
