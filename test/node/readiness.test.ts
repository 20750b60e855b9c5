import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { AmbiguousModelError, UnknownModelError } from '../../node/errors.ts'
import { ModelReadiness, type ModelReadinessComponents } from '../../node/readiness.ts'
import { SimulatedMesh, shareOf, simulatedModel } from './simulation/mesh.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const MODEL = simulatedModel()

/** Readiness of the source a beside b, each with that share of the model's need. */
function readinessOf(shares: { a: number; b?: number }, over: Partial<ModelReadinessComponents> = {}) {
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', { memoryBytes: shareOf(MODEL, shares.a), models: [MODEL] })
  if (shares.b !== undefined) mesh.add('b', { memoryBytes: shareOf(MODEL, shares.b) })
  const { deployments } = a.source()
  let nowMs = 0
  const model = { name: MODEL.name, id: MODEL.id, manifest: MODEL.manifest }
  const catalog: ModelReadinessComponents['catalog'] = {
    resolve: async () => model,
    summaries: async () => []
  }
  const readiness = new ModelReadiness({ catalog, deployments, now: () => nowMs, ...over })
  return { mesh, readiness, later: (ms: number) => (nowMs += ms) }
}

test('a lone node that holds the default model is ready', async () => {
  expect(await readinessOf({ a: 2 }).readiness.state()).toEqual({ ready: true, reasons: [] })
})

test('a node that needs its peer is ready while that is there, and says in no names what is wrong', async () => {
  const { mesh, readiness, later } = readinessOf({ a: 0.8, b: 0.8 })
  expect(await readiness.state()).toEqual({ ready: true, reasons: [] })
  mesh.vanish('b')
  expect((await readiness.state()).ready).toBe(true)
  later(1000)
  expect(await readiness.state()).toEqual({
    ready: false,
    reasons: ['the default model fits on none of the devices that are connected, nor on all of them']
  })
})

test('it is found out once for all who ask within a second', async () => {
  const isPlaceable = vi.fn(async () => true)
  const { readiness, later } = readinessOf({ a: 2 }, { deployments: { isPlaceable } })
  await Promise.all([readiness.state(), readiness.state()])
  await readiness.state()
  expect(isPlaceable).toHaveBeenCalledTimes(1)
  later(1000)
  await readiness.state()
  expect(isPlaceable).toHaveBeenCalledTimes(2)
})

const named = (name: string) => ({ name, id: name, holders: [] }) as unknown as never
const noDefault = (names: string[]): ModelReadinessComponents['catalog'] => ({
  resolve: async nameOrId => {
    if (nameOrId === undefined) throw new UnknownModelError('nobody holds it')
    return { name: nameOrId, id: nameOrId, manifest: MODEL.manifest }
  },
  summaries: async () => names.map(named)
})

test.each([
  [[], { ready: false, reasons: ['there is no model in the mesh'] }],
  [['large', 'small'], { ready: true, reasons: [] }],
  [
    ['large'],
    { ready: false, reasons: ['none of the models in the mesh fits on the devices that are connected'] }
  ]
])('without a default model any other one will do: %j', async (names, state) => {
  const isPlaceable = async ({ model }: { model: { name: string } }) => model.name === 'small'
  const { readiness } = readinessOf({ a: 2 }, { catalog: noDefault(names), deployments: { isPlaceable } })
  expect(await readiness.state()).toEqual(state)
})

test('what cannot be told is not ready', async () => {
  const failing = (error: Error) => ({ resolve: () => Promise.reject(error), summaries: async () => [] })
  const reasonOf = async (error: Error) =>
    (await readinessOf({ a: 2 }, { catalog: failing(error) }).readiness.state()).reasons[0]
  expect(await reasonOf(new AmbiguousModelError('two'))).toContain('two models')
  expect(await reasonOf(new Error('secret-device broke'))).toBe('the default model cannot be looked at')
})
