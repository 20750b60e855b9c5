import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import { played, sleep, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, type SimulatedModel, shareOf } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'
import { drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const CONTEXT = 512
const promptOf = (kind: number, tokens = 300, common = 0): number[] =>
  Array.from({ length: tokens }, (_, i) => ((i < common ? i : i + 31 * kind) * 7919) % 200)
const [MINE, YOURS] = [promptOf(1), promptOf(2)]

/** Three devices with one slot, of which each keeps so much beside; only the first has the model. */
function meshWith(prefixCacheBytes: number[], model: SimulatedModel = MODEL): SimulatedMesh {
  const mesh = new SimulatedMesh(model)
  const memoryBytes = shareOf(model, 0.42, 1, CONTEXT)
  prefixCacheBytes.forEach((bytes, at) => {
    const id = 'abcd'[at]!
    mesh.add(id, { memoryBytes, prefixCacheBytes: bytes, models: at === 0 ? [model] : [] })
  })
  return mesh
}
const PLENTY = 2 ** 24

async function ask(deployments: Deployments, prompt: number[], scope: string, exact = false) {
  const needs = needsOf(MODEL, { prompt, promptTokens: prompt.length, newTokens: 16, scope, exact })
  const { tokens, stream } = await played(drawAnswer(deployments, needs))
  const { cachedTokens, recoveries } = stream
  return { tokens, cachedTokens, recoveries, devices: stream.plan.stages.map(({ peerId }) => peerId) }
}

async function freshly(prompt: number[]): Promise<number[]> {
  const { deployments } = meshWith([0, 0, 0]).get('a').source()
  const { tokens } = await ask(deployments, prompt, 'nobody')
  await played(deployments.close())
  return tokens
}

/** A source that has answered my prompt and then yours, in the one slot that there is. */
async function begun(mesh: SimulatedMesh) {
  const { deployments } = mesh.get('a').source()
  const first = await ask(deployments, MINE, 'mine')
  expect(first.devices).toEqual(['a', 'b', 'c'])
  await ask(deployments, YOURS, 'yours')
  return { deployments, first }
}

test('a conversation whose slot another one took goes on from what every device has kept of it', async () => {
  const mesh = meshWith([PLENTY, PLENTY, PLENTY])
  const { deployments, first } = await begun(mesh)
  const next = [...MINE, ...first.tokens, 5, 5]
  const mine = await ask(deployments, next, 'mine')
  expect([mine.cachedTokens, mine.tokens]).toEqual([315, await freshly(next)])
  // And so does the one that took it, behind a part of what it had; others have none of either.
  const edited = [...YOURS.slice(0, 290), 7, 7]
  const yours = await ask(deployments, edited, 'yours')
  expect([yours.cachedTokens, yours.tokens]).toEqual([288, await freshly(edited)])
  for (const scope of ['third', '']) {
    const other = await ask(deployments, next, scope)
    expect([other.cachedTokens, other.tokens]).toEqual([0, mine.tokens])
  }
  await played(deployments.close())
  for (const { room } of mesh.nodes.values()) expect(room.prefixes.heldBytes).toBe(0)
})

test.each([
  ['a device has no memory for it', [PLENTY, 0, PLENTY]],
  ['a device has less than it takes', [PLENTY, PLENTY, 64]]
])('where %s all is computed anew, and nothing is kept in vain for long', async (_, bytes) => {
  const { deployments } = await begun(meshWith(bytes))
  const again = await ask(deployments, MINE, 'mine')
  expect([again.cachedTokens, again.recoveries, again.tokens]).toEqual([0, 0, await freshly(MINE)])
  await played(deployments.close())
})

test.each(['a', 'b', 'c'])(
  'where %s has given it up the prompt is computed anew, and no device is left',
  async gone => {
    const mesh = meshWith([PLENTY, PLENTY, PLENTY])
    const { deployments } = await begun(mesh)
    const { prefixes, leases } = mesh.get(gone).room
    const [lease] = leases.state(() => 0)
    expect(prefixes.heldBytes).toBeGreaterThan(0)
    prefixes.forget(lease!.id)
    const again = await ask(deployments, MINE, 'mine')
    expect([again.cachedTokens, again.recoveries, again.tokens]).toEqual([0, 0, await freshly(MINE)])
    expect(again.devices).toEqual(['a', 'b', 'c'])
    await played(deployments.close())
  }
)

test('a device may read for as long as a disk does what it puts into a slot again', async () => {
  const mesh = meshWith([PLENTY, PLENTY, PLENTY])
  const { deployments } = await begun(mesh)
  onMeeting(mesh.get('b'), 'open', () => sleep(REQUEST_TIMEOUT_MS))
  const again = await ask(deployments, MINE, 'mine')
  expect([again.cachedTokens, again.recoveries, again.devices]).toEqual([288, 0, ['a', 'b', 'c']])
  await played(deployments.close())
})

test('a device that takes a lost one’s place has nothing of it', async () => {
  const mesh = meshWith([PLENTY, PLENTY, PLENTY, PLENTY])
  const { deployments } = await begun(mesh)
  mesh.vanish('b')
  const again = await ask(deployments, MINE, 'mine')
  expect([again.cachedTokens, again.tokens]).toEqual([0, await freshly(MINE)])
  expect(again.devices).toEqual(['a', 'd', 'c'])
  await played(deployments.close())
})

test('a source that wants stored what a slot has not pushes nothing of others out', async () => {
  const held = async (bytes: number) => {
    const mesh = meshWith([PLENTY, bytes, PLENTY])
    const { deployments } = await begun(mesh)
    return { ...mesh.get('b'), deployments }
  }
  const before = (await held(PLENTY)).room.prefixes.heldBytes
  // For what there is, but not for 500 tokens beside those 315.
  const { serving, room, deployments } = await held(Math.ceil(1.9 * before))
  const [lease] = room.leases.state(() => 0)
  const session = { leaseId: lease!.id, slot: 0, keepTokens: 0, withholdTokens: 0, sessionId: 'a'.repeat(32) }
  const reply = await played(serving.open('a', { ...session, store: { key: 9, tokens: 500 } }))
  expect([reply, room.prefixes.heldBytes]).toEqual([{ stored: false }, before])
  await played(serving.close('a', session.sessionId))
  await played(deployments.close())
})

test('a device whose KV caches cannot be taken out says so once, and makes room for nothing', async () => {
  const mesh = meshWith([PLENTY, PLENTY, PLENTY])
  const { serving, runtime, room } = mesh.get('b')
  runtime.letsOut = false
  const [{ open }, asked] = [serving, [] as unknown[]]
  serving.open = async (...of) => {
    const reply = await open.apply(serving, of)
    asked.push(of[1].store && reply)
    return reply
  }
  const { deployments } = await begun(mesh)
  const again = await ask(deployments, MINE, 'mine')
  expect([again.cachedTokens, again.recoveries]).toEqual([0, 0])
  expect([asked, room.prefixes.heldBytes]).toEqual([[undefined, {}, undefined], 0])
  await played(deployments.close())
})

test('a peer that claims to have stored what it has not costs a round trip, not the answer', async () => {
  const mesh = meshWith([PLENTY, 0, PLENTY])
  const { serving } = mesh.get('b')
  const { open } = serving
  serving.open = async (...of) => ({ ...(await open.apply(serving, of)), stored: true })
  const { deployments } = await begun(mesh)
  const again = await ask(deployments, MINE, 'mine')
  expect([again.cachedTokens, again.recoveries, again.tokens]).toEqual([0, 0, await freshly(MINE)])
  await played(deployments.close())
})
