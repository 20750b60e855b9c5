import { expect, test } from 'vitest'
import { createClient } from '../../node/client/index.ts'
import { startHttpServer } from '../../node/http/index.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'

const QUESTION = 'What does a thermostat do?'

test('a model that was loaded answers its first prompt without a load; nobody who watches answers hears of it', async () => {
  await using nodes = new Nodes()
  const twin = await answer(await nodes.add(), ask(QUESTION))
  const mesh = await nodes.mesh(['a', 'b', 'c'], 0.42)
  const [a] = mesh
  let watched = 0
  a!.watchAnswers(() => {
    watched++
    return { onEvent: () => {}, onEnd: () => {} }
  })
  await a!.load(undefined)
  expect(watched).toBe(0)
  const [deployment, ...others] = a!.mesh().deployments
  expect(deployment).toMatchObject({ objective: 'latency', sessions: 0 })
  expect(others).toEqual([])
  expect(deployment!.plan.stages.length).toBeGreaterThan(1)
  const result = await answer(a!, ask(QUESTION))
  expect(watched).toBe(1)
  expect(result.predicted.loadMs).toBeUndefined()
  expect(result.tokens).toEqual(twin.tokens)
  expect(result.plan.stages).toEqual(deployment!.plan.stages)
  await a!.load(undefined, { keepAliveMs: 1 })
  await until(() => mesh.every(node => node.mesh().leases.length === 0))
  expect(a!.mesh().deployments).toEqual([])
})

test('a load that is aborted, or whose node is drained, ends and leaves no lease; what cannot be loaded is said as of a request', async () => {
  await using nodes = new Nodes()
  const mesh = await nodes.mesh(['a', 'b', 'c'], 0.42)
  const [a] = mesh
  const isEmpty = () => mesh.every(node => node.mesh().leases.length === 0)
  const isReserved = () => mesh.some(node => node.mesh().leases.length > 0)
  const abort = new AbortController()
  const aborted = expect(a!.load(undefined, { signal: abort.signal })).rejects.toThrow('left')
  await until(isReserved)
  abort.abort(new Error('left'))
  await aborted
  // Where this machine was so slow to notice that it was loaded, it rests.
  if (a!.mesh().deployments.length === 0) await until(isEmpty)
  await a!.keepAlive(undefined, 0)
  await until(isEmpty)

  const drained = expect(a!.load(undefined)).rejects.toMatchObject({ code: 'stopping' })
  await until(isReserved)
  expect(await a!.drain({ signal: AbortSignal.timeout(60_000) })).toBe(true)
  await drained
  await expect(a!.load(undefined)).rejects.toMatchObject({ code: 'stopping' })
  a!.undrain()
  await until(isEmpty)
  await expect(a!.load('nobody')).rejects.toMatchObject({ code: 'model_not_found' })
  await expect(a!.load(undefined, { keepAliveMs: 0 })).rejects.toMatchObject({ param: 'keepAliveMs' })
  await a!.load(undefined)
  expect(a!.mesh().deployments).toHaveLength(1)
})

test('an empty prompt of Ollama for a model that fits nowhere is refused as any', async () => {
  await using nodes = new Nodes()
  const [alone] = await nodes.mesh(['alone'], 0.3)
  await using server = await startHttpServer({ node: alone!, host: '127.0.0.1', port: 0 })
  const { status, body } = await fetch(`${server.url}/api/generate`, {
    method: 'POST',
    body: JSON.stringify({ model: 'edgeshard-tiny' })
  }).then(async response => ({ status: response.status, body: await response.json() }))
  expect({ status, body }).toMatchObject({
    status: 503,
    body: { error: expect.stringContaining('fits nowhere') }
  })
  expect(alone!.mesh().leases).toEqual([])
})

test('what one source has loaded makes room for the prompt of another', async () => {
  await using nodes = new Nodes()
  const [a, b] = await nodes.mesh(['a', 'b'], 0.7)
  await using server = await startHttpServer({ node: a!, host: '127.0.0.1', port: 0 })
  await createClient({ url: server.url }).load('edgeshard-tiny')
  expect(a!.mesh().deployments).toHaveLength(1)
  const { tokens } = await answer(b!, ask(QUESTION))
  expect(tokens.length).toBeGreaterThan(0)
  await until(() => a!.mesh().deployments.length === 0)
})
