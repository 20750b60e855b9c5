import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Pooling } from '../../../../models/runtime/pooling.ts'
import type { EmbedRequest, GenerateEvent } from '../../../../node/api.ts'
import { PlanRefusedError } from '../../../../node/errors.ts'
import type { PromptableModel } from '../../../../node/source/placement/catalog.ts'
import { embed } from '../../../../node/source/request/embed.ts'
import { pass, played, stopClock } from '../../simulation/clock.ts'
import type { SimulatedMesh } from '../../simulation/mesh.ts'
import { onMeeting } from '../../simulation/peers.ts'
import { MODEL, meshOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const encode = async (text: string) => [...text].map(character => character.codePointAt(0)! % 160)
const LONG = Array.from({ length: 300 }, (_, i) => (7 * i) % 160)
const INPUTS: EmbedRequest['inputs'] = [
  { kind: 'raw', text: 'a short one' },
  { kind: 'ids', ids: [5, 17, 3] },
  { kind: 'ids', ids: LONG },
  { kind: 'raw', text: 'and' },
  { kind: 'raw', text: 'some' },
  { kind: 'raw', text: 'more' }
]

interface AskingOptions {
  signal?: AbortSignal
  card?: { pooling?: Pooling; closingId?: number }
  /** Happens while a text is encoded. */
  meanwhile?: () => void
}

/** Asks device `a` of a mesh for vectors. */
function asking(
  mesh: SimulatedMesh,
  request: Partial<EmbedRequest> = {},
  { signal = new AbortController().signal, card = {}, meanwhile = () => {} }: AskingOptions = {}
) {
  const { name, id } = MODEL
  const { pooling, closingId } = card
  const manifest = { ...MODEL.manifest, ...(pooling && { pooling }) }
  const encoded = async (text: string) => {
    meanwhile()
    return await encode(text)
  }
  const tokenizer = { encode: encoded, closingId, vocabSize: manifest.shape.vocabSize }
  const model = { name, id, manifest, tokenizer } as unknown as PromptableModel
  const { deployments } = mesh.get('a').source()
  const events: GenerateEvent[] = []
  const components = { catalog: { promptable: async () => model }, deployments }
  const onEvent = (event: GenerateEvent) => void events.push(event)
  const asked = embed(components, { inputs: INPUTS, ...request }, { signal, requestId: 'r', onEvent })
  return { asked, events, deployments }
}

/** What one device alone makes of them. */
async function expected(): Promise<Float32Array[]> {
  return (await played(asking(meshOf(['a'], 5)).asked)).vectors
}

test('what has a place is made to its end, though a device is drained that nothing fits without', async () => {
  const vectors = await expected()
  const mesh = meshOf(['a', 'b'], 0.9)
  onMeeting(mesh.get('b'), 'frame', () => mesh.drain('b'), 1)
  const { asked, deployments } = asking(mesh)
  expect((await played(asked)).vectors).toEqual(vectors)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
  await expect(played(asking(mesh).asked)).rejects.toThrow(PlanRefusedError)
})

test('devices make together what one makes alone, and a lost one changes nothing', async () => {
  const vectors = await expected()
  expect(new Set(vectors.map(String)).size).toBe(INPUTS.length)
  for (const privacy of ['prompt', 'sealed'] as const) {
    const mesh = meshOf(['a', 'b', 'c', 'd'], 0.9)
    const { asked, events, deployments } = asking(mesh, { privacy })
    const lose = () => {
      const plan = events.find(event => event.type === 'plan')
      const used = plan?.plan.stages.find(({ peerId }) => peerId !== 'a')?.peerId
      if (used === undefined) setTimeout(lose, 20)
      else mesh.vanish(used)
    }
    setTimeout(lose, 20)
    const result = await played(asked)
    expect(result).toMatchObject({ pooling: 'mean', isPoolingKnown: false })
    expect(result.vectors, privacy).toEqual(vectors)
    expect(events.filter(({ type }) => type === 'recovery').length, privacy).toBeGreaterThan(0)
    await played(deployments.close())
    await pass(1000)
    expect(mesh.empty).toBe(true)
  }
})

test('nothing of it stays in KV caches: the same again is computed again', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const [first] = await expected()
  for (let times = 0; times < 2; times++) {
    const { asked } = asking(mesh, { inputs: INPUTS.slice(0, 1) })
    expect((await played(asked)).vectors).toEqual([first])
  }
})

test.each([
  [{ inputs: [{ kind: 'raw', text: '' }] }, 'empty'],
  [{ inputs: [{ kind: 'ids', ids: [160] }] }, 'token 160'],
  [{ inputs: [{ kind: 'ids', ids: Array(1024).fill(1) }] }, '1024 tokens'],
  [{ dimensions: 32 }, 'vectors of 64 values']
] satisfies [Partial<EmbedRequest>, string][])('what is wrong is refused: %#', async (request, text) => {
  const { asked } = asking(meshOf(['a'], 5), request)
  await expect(played(asked)).rejects.toThrow(text)
})

test('an input that is too long is cut where that was asked for', async () => {
  const long = { kind: 'ids' as const, ids: Array<number>(1500).fill(1) }
  const cut = { kind: 'ids' as const, ids: Array<number>(1023).fill(1) }
  const { asked } = asking(meshOf(['a'], 5), { inputs: [long, cut], truncate: true, dimensions: 64 })
  const { vectors, promptTokens } = await played(asked)
  expect(vectors[0]).toEqual(vectors[1])
  expect(promptTokens).toBe(2 * 1023)
})

test('one that is not wanted any more lets go of everything', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const abort = new AbortController()
  const { asked, deployments } = asking(mesh, {}, { signal: abort.signal })
  const failed = expect(asked).rejects.toThrow('enough')
  await pass(200)
  abort.abort(new Error('enough'))
  await played(failed)
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('one whose client leaves while its last text is encoded ends', async () => {
  const abort = new AbortController()
  const meanwhile = () => abort.abort(new Error('enough'))
  const { asked } = asking(meshOf(['a'], 5), {}, { signal: abort.signal, meanwhile })
  await expect(played(asked)).rejects.toThrow('enough')
})

test('a model’s card says how, and its tokenizer what closes a text; token ids are as they were given', async () => {
  const card = { pooling: 'last' as const, closingId: 9 }
  const ids = [...(await encode('abc')), 9]
  const inputs: EmbedRequest['inputs'] = [
    { kind: 'raw', text: 'abc' },
    { kind: 'ids', ids },
    { kind: 'ids', ids: ids.slice(0, -1) }
  ]
  const { vectors, ...said } = await played(asking(meshOf(['a'], 5), { inputs }, { card }).asked)
  const devices = [{ peerId: 'a', name: 'a' }]
  expect(said).toEqual({ pooling: 'last', isPoolingKnown: true, promptTokens: 4 + 4 + 3, devices })
  expect(vectors[0]).toEqual(vectors[1])
  expect(vectors[0]).not.toEqual(vectors[2])
  const { asked } = asking(meshOf(['a'], 5), { inputs: inputs.slice(0, 2) })
  expect((await played(asked)).vectors[0]).not.toEqual(vectors[0])
  const long: EmbedRequest['inputs'] = [{ kind: 'raw', text: 'a'.repeat(1500) }]
  const cut = { kind: 'ids' as const, ids: [...(await encode('a'.repeat(1022))), 9] }
  const both = asking(meshOf(['a'], 5), { inputs: [...long, cut], truncate: true }, { card })
  const result = await played(both.asked)
  expect(result.vectors[0]).toEqual(result.vectors[1])
})
