import { expect, it } from 'vitest'
import type { GenerateEvent } from '../../node/index.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledShare, Nodes, nextOf, until } from '../fixtures/nodes.ts'

const REQUEST = ask('Tell me a story about a robot and a lamp.', {
  temperature: 0.8,
  topP: 0.95,
  seed: 11,
  maxTokens: 100,
  ignoreEos: true,
  placement: { method: 'edgeshard-even' }
})

it('an answer goes over to a device that has joined when its own is drained, and not a token is another one', async () => {
  await using nodes = new Nodes()
  const twin = await answer(await nodes.add({ name: 'alone' }), { ...REQUEST, placement: {} })
  const [a, b] = await nodes.mesh(['a', 'b'], 6)
  const events = a!.generate(REQUEST)
  const { plan } = await nextOf(events, 'plan')
  expect(plan.stages.map(({ name }) => name)).toEqual(['a', 'b'])
  for (let i = 0; i < 10; i++) await nextOf(events, 'text')
  // The answer does not run ahead of who reads it.
  const memoryBytes = await bundledShare(6)
  const peers = a!.addresses.slice(0, 1)
  const c = await nodes.add({ name: 'c', memoryBytes, peers, bundled: false })
  await until(() => a!.mesh().peers.some(({ name, connected }) => name === 'c' && connected))
  const drained = b!.drain({ signal: AbortSignal.timeout(deadlineMs(60_000)), handOver: true })
  const placed = () => a!.mesh().deployments.flatMap(({ plan }) => plan.stages.map(({ peerId }) => peerId))
  await until(() => placed().includes(c.peerId))
  const seen: GenerateEvent[] = []
  for await (const event of events) seen.push(event)
  const { result } = seen.findLast(event => event.type === 'done')!
  expect(result.tokens).toEqual(twin.tokens)
  expect(result.recoveries).toBe(0)
  expect(result.moves).toEqual([expect.objectContaining({ reason: 'drained', tokens: expect.any(Number) })])
  expect(result.plan.stages.map(({ name }) => name)).toEqual(['a', 'c'])
  expect(await drained).toBe(true)
})
