import { expect, it } from 'vitest'
import { createClient } from '../../node/client/index.ts'
import { startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode } from '../../node/index.ts'
import { answer, ask, Nodes, nextOf } from '../fixtures/nodes.ts'

const REQUEST = ask('Tell me a story about a robot and a lamp.', {
  temperature: 0.8,
  topP: 0.95,
  seed: 11,
  maxTokens: 150
})

/** An answer of `source` whose middle stage is drained, as its own API is told, while it is drawn. */
async function drainedAnswer(source: EdgeNode, mesh: readonly EdgeNode[]) {
  const events = source.generate(REQUEST)
  const { plan } = await nextOf(events, 'plan')
  const middle = mesh.find(({ peerId }) => peerId === plan.stages[1]?.peerId)!
  for (let i = 0; i < 3; i++) await nextOf(events, 'text')
  const left = Promise.withResolvers<void>()
  const server = await startHttpServer({
    node: middle,
    host: '127.0.0.1',
    port: 0,
    token: 'token',
    onLeave: () => left.resolve()
  })
  const client = createClient({ url: server.url, token: 'token' })
  expect(await client.drain({ leave: true })).toMatchObject({
    draining: true,
    sources: [{ peerId: source.peerId, name: source.name }]
  })
  const { result } = await nextOf(events, 'done')
  await left.promise
  return { middle, server, client, result }
}

it('a device that is drained during an answer hands its stage over and leaves; not a token is another one', async () => {
  await using nodes = new Nodes()
  const twin = await answer(await nodes.add({ name: 'alone' }), REQUEST)
  const mesh = await nodes.mesh(['a', 'b', 'c', 'd'], 0.42)
  const [a] = mesh
  for (;;) {
    const { middle, server, client, result } = await drainedAnswer(a!, mesh)
    expect(result.tokens).toEqual(twin.tokens)
    expect(result.finishReason).toBe(twin.finishReason)
    expect(middle.mesh().leases).toEqual([])
    expect(await client.draining()).toMatchObject({ draining: true, answers: 0, sessions: 0, sources: [] })
    // A machine that is busy may have drawn the answer before the layers were loaded elsewhere.
    if (result.recoveries + (result.moves?.length ?? 0) === 1) {
      expect(result.plan.stages.map(({ peerId }) => peerId)).not.toContain(middle.peerId)
      expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
      expect(await middle.readiness()).toEqual({ ready: false, reasons: ['the node is being drained'] })
      await expect(answer(middle, REQUEST)).rejects.toMatchObject({ code: 'stopping' })
      expect(await client.undrain()).toMatchObject({ draining: false })
      await server.stop()
      await middle.stop()
      expect((await answer(a!, REQUEST)).tokens).toEqual(twin.tokens)
      return
    }
    await client.undrain()
    await server.stop()
  }
})
