import { expect, it } from 'vitest'
import { answer, ask, bundledShare, Nodes, nextOf, until } from '../fixtures/nodes.ts'

const REQUEST = ask('Tell me a story about a robot and a lamp.', {
  temperature: 0.8,
  topP: 0.95,
  seed: 11,
  maxTokens: 100,
  ignoreEos: true,
  placement: { method: 'edgeshard-even' }
})

it('a spare fetches what a loss would have it load, stands by with that, and goes on with the answer when the device dies', async () => {
  await using nodes = new Nodes()
  const memoryBytes = await bundledShare(6)
  // Too little for the whole model, and enough for its part twice.
  const [a, b] = await nodes.mesh(['a', 'b'], 6, { memoryBytes: await bundledShare(0.9) })
  const first = await answer(a!, REQUEST)
  expect(first.plan.stages.map(({ name }) => name)).toEqual(['a', 'b'])
  const peers = a!.addresses.slice(0, 1)
  const c = await nodes.add({ name: 'c', memoryBytes, peers, bundled: false, prefetchBytes: 1e9 })
  const held = () => c.mesh().self.models.flatMap(({ layers }) => layers)
  const [start, end] = first.plan.stages[1]!.layers
  await until(() => held().some(layers => layers[0] <= start && layers[1] >= end))
  const { bytes, quotaBytes } = c.mesh().self.prefetch!
  expect([bytes > 0, quotaBytes]).toEqual([true, 1e9])
  // Loaded as well, in memory that counts as free.
  await until(() => c.mesh().leases.some(({ layers }) => layers[0] === start && layers[1] === end))
  const { memory } = c.mesh().self
  expect(memory.freeBytes).toBe(memory.budgetBytes)
  const { weightBytesReceived } = c.mesh().self.counters

  const events = a!.generate({ ...REQUEST, standby: true })
  for (let i = 0; i < 10; i++) await nextOf(events, 'text')
  // The answer does not run ahead of who reads it.
  await until(() => a!.mesh().deployments[0]?.standby !== undefined && c.mesh().sessions === 1)
  expect(c.mesh().self.counters.weightBytesReceived).toBe(weightBytesReceived)
  await b!.stop()
  const { result } = await nextOf(events, 'done')
  expect(result.tokens).toEqual(first.tokens)
  expect(result.recoveries).toBe(0)
  expect(result.moves!.map(({ reason, to }) => [reason, ...to.map(({ name }) => name)])).toEqual([
    ['lost', 'a', 'c']
  ])
})
