import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Tokenizer } from '../../../../models/tokenizer/tokenizer.ts'
import type { Deployments } from '../../../../node/source/placement/deployments.ts'
import { type LoadRequest, load } from '../../../../node/source/request/load.ts'
import { pass, played, sleep, stopClock } from '../../simulation/clock.ts'
import { type SimulatedMesh, type SimulatedModel, simulatedModel } from '../../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const drafts = { mayGuess: () => false, expected: async () => undefined }
/** Time that the tokenizer takes to load. */
const TOKENIZER_MS = 30

function loading(
  deployments: Deployments,
  over: Partial<LoadRequest> = {},
  { signal = new AbortController().signal, model = MODEL as SimulatedModel, tokenizerMs = TOKENIZER_MS } = {}
): Promise<void> {
  const { name, id, manifest } = model
  const tokenizer = { encode: async () => [1, 2] } as unknown as Tokenizer
  const catalog: Parameters<typeof load>[0]['catalog'] = {
    promptable: async (_, { signal, onKnown }) => {
      onKnown?.({ name, id, manifest })
      await sleep(tokenizerMs)
      signal.throwIfAborted()
      return { name, id, manifest, tokenizer }
    }
  }
  return load({ catalog, deployments, drafts }, { model: undefined, ...over }, { signal, requestId: 'r' })
}

const loadsOf = (mesh: SimulatedMesh) =>
  [...mesh.nodes.values()].reduce((sum, { runtime }) => sum + runtime.loads.length, 0)

async function isEmptySoon(mesh: SimulatedMesh): Promise<void> {
  await pass(1000)
  expect(mesh.empty).toBe(true)
}

test('what is loaded is there for the first request: nothing is placed for it, and nothing was learned of its first token', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments, planning } = mesh.get('a').source()
  await played(loading(deployments))
  expect(deployments.state()).toMatchObject([{ modelId: MODEL.id, objective: 'latency', sessions: 0 }])
  expect(loadsOf(mesh)).toBe(3)
  expect(planning.firsts.beyondMs(MODEL.id)).toBe(0)
  expect(planning.corrections.profileOf({ peerId: 'a', modelId: MODEL.id, borrowed: false })).toBeUndefined()
  const asked = needsOf(MODEL, { newTokens: 200, mostTokens: 4, startedAtMs: performance.now() })
  const { events, stream } = await played(drawAnswer(deployments, asked))
  expect(stream.predicted).toMatchObject({ waitedMs: expect.any(Number) })
  expect(stream.predicted?.loadMs).toBeUndefined()
  expect(events.filter(({ type }) => type === 'progress')).toEqual([])
  expect(loadsOf(mesh)).toBe(3)
  await played(deployments.close())
  await isEmptySoon(mesh)
})

test('the model is placed while its tokenizer is loaded', async () => {
  // For a request whose length nobody knows.
  const mesh = meshOf(['a', 'b', 'c'], 0.7)
  const { deployments } = mesh.get('a').source()
  const began = loading(deployments, {}, { tokenizerMs: 5_000 })
  await played(sleep(4_999))
  expect(loadsOf(mesh)).toBeGreaterThan(1)
  await played(began)
  await played(deployments.close())
  await isEmptySoon(mesh)
})

test('two loads at once, and a request that comes meanwhile, place the model once; the request hears how far that is', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const both = Promise.all([loading(deployments), loading(deployments)])
  const answer = drawAnswer(deployments, needsOf(MODEL, { newTokens: 4 }))
  await played(both)
  const { tokens, events } = await played(answer)
  expect(tokens).toHaveLength(4)
  expect(events.filter(({ type }) => type === 'progress').length).toBeGreaterThan(0)
  expect(loadsOf(mesh)).toBe(3)
  // Of what is loaded nothing is asked.
  const startMs = performance.now()
  await played(loading(deployments))
  expect(performance.now() - startMs).toBe(TOKENIZER_MS)
  await played(deployments.close())
  await isEmptySoon(mesh)
})

test('a load waits for no answer, and no request for a load that would have to', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const answer = drawAnswer(deployments, needsOf(MODEL, { newTokens: 200 }))
  let isOver = false
  void answer.then(() => {
    isOver = true
  })
  // One stands in line while the answer's model is placed.
  await played(loading(deployments))
  expect(isOver).toBe(false)
  const sealed = loading(deployments, { privacy: 'sealed' })
  await played(expect(sealed).rejects.toMatchObject({ name: 'BusyError' }))
  expect(isOver).toBe(false)
  await played(answer)
  await played(loading(deployments, { privacy: 'sealed' }))
  await played(deployments.close())
  await isEmptySoon(mesh)
})

test('a load stands in no line for memory behind the answer of another source', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.get('b').store.hold(MODEL.name, MODEL.bytes)
  const [first, second] = ['a', 'b'].map(id => mesh.get(id).source().deployments)
  const [begun, over] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const onToken = () => {
    begun.resolve()
    return over.promise
  }
  const answer = drawAnswer(second!, needsOf(MODEL, { newTokens: 4 }), { onToken })
  await played(begun.promise)
  const startMs = performance.now()
  await played(expect(loading(first!)).rejects.toMatchObject({ name: 'BusyError' }))
  expect(performance.now() - startMs).toBeLessThan(5_000)
  over.resolve()
  await played(answer)
  await played(loading(first!))
  expect(second!.state()).toEqual([])
  await played(Promise.all([first!.close(), second!.close()]))
  await isEmptySoon(mesh)
})

test('what is loaded rests as behind an answer: it stays as long as was said, and makes room for another source', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.get('b').store.hold(MODEL.name, MODEL.bytes)
  const [first, second] = ['a', 'b'].map(id => mesh.get(id).source().deployments)
  await played(loading(first!, { keepAliveMs: 120_000 }))
  await pass(100_000)
  expect(first!.state()).toHaveLength(1)
  // Said again, it counts from there on.
  await played(loading(first!, { keepAliveMs: 120_000 }))
  await pass(100_000)
  expect(first!.state()).toHaveLength(1)
  const { tokens } = await played(drawAnswer(second!, needsOf(MODEL, { newTokens: 4 })))
  expect(tokens).toHaveLength(4)
  expect(first!.state()).toEqual([])
  await played(loading(first!, { keepAliveMs: 5_000 }))
  await pass(6_000)
  expect(first!.state()).toEqual([])
  await played(second!.close())
  await isEmptySoon(mesh)
})

test('a load that is aborted at any moment leaves no lease, or one that rests', async () => {
  const doneMs = await (async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const startMs = performance.now()
    await played(loading(deployments))
    const ms = performance.now() - startMs
    await played(deployments.close())
    return ms
  })()
  expect(doneMs).toBeGreaterThan(TOKENIZER_MS)
  for (let atMs = 0; atMs < doneMs; atMs += 3) {
    const mesh = meshOf(['a', 'b', 'c'])
    mesh.get('b').store.hold(MODEL.name, MODEL.bytes)
    const { deployments } = mesh.get('a').source()
    const abort = new AbortController()
    const began = loading(deployments, {}, { signal: abort.signal })
    const ended = expect(began, `aborted after ${atMs} ms`).rejects.toThrow('left')
    await pass(atMs)
    abort.abort(new Error('left'))
    await played(ended)
    await pass(500)
    // Whoever needs the memory has it, without waiting until a lease without a session has run out.
    const { deployments: other } = mesh.get('b').source()
    const startMs = performance.now()
    await played(drawAnswer(other, needsOf(MODEL, { newTokens: 1 })))
    expect(performance.now() - startMs, `aborted after ${atMs} ms`).toBeLessThan(5_000)
    await played(Promise.all([deployments.close(), other.close()]))
    await isEmptySoon(mesh)
  }
})

test('a model that is to stay loaded for no time, and one that fits nowhere, are refused', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  await expect(loading(deployments, { keepAliveMs: 0 })).rejects.toMatchObject({ param: 'keepAliveMs' })
  const large = simulatedModel('large', { decoderLayers: 40 })
  const small = meshOf(['a', 'b'], 0.1, large)
  const source = small.get('a').source()
  const refused = expect(loading(source.deployments, {}, { model: large })).rejects.toMatchObject({
    name: 'PlanRefusedError'
  })
  await played(refused)
  await isEmptySoon(small)
})
