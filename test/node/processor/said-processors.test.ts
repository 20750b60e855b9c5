import { expect, test } from 'vitest'
import type { Manifest } from '../../../models/manifest.ts'
import type { LayersKind } from '../../../node/processor/gpu-refusals.ts'
import { SaidProcessors } from '../../../node/processor/said-processors.ts'
import { MAX_PROCESSOR_MODELS } from '../../../protocols/directory/constants.ts'

/** A model, of which no more is looked at here than its shape. */
const model = (id: string) => ({ id, manifest: { shape: { name: id }, layers: [] } as unknown as Manifest })
const nameOf = ({ shape }: LayersKind) => (shape as unknown as { name: string }).name

function said() {
  const gpu = { kind: 'gpu' as 'gpu' | 'cpu', refused: new Set<string>() }
  const runtime = {
    get processor() {
      return { kind: gpu.kind }
    },
    processorOf: (kind: LayersKind) => (gpu.refused.has(nameOf(kind)) ? 'cpu' : gpu.kind)
  }
  return { gpu, said: new SaidProcessors({ runtime, cpu: 'a processor', driver: 'a card', keepsBits: true }) }
}

const CPU = { kind: 'cpu', name: 'a processor' }
const GPU = { kind: 'gpu', name: 'a card', keepsBits: true }

test('the CPU has memory and times of its own while the GPU is used, and the GPU’s place while it rests', () => {
  const { gpu, said: processors } = said()
  expect(processors.state).toEqual([
    { ...CPU, used: false },
    { ...GPU, used: true }
  ])
  const memory = { budgetBytes: 9, freeBytes: 4 }
  processors.besideLeases = memory
  const profiles = { a: { decoder: { decodeMs: 1, prefillMsPerToken: 1 } } }
  processors.besideProfiles = profiles
  expect(processors.state[0]).toEqual({ ...CPU, used: false, memory, profiles })
  gpu.kind = 'cpu'
  expect(processors.state).toEqual([
    { ...CPU, used: true },
    { ...GPU, used: false }
  ])
})

test('models that the GPU refuses are named while it is used, the newest where they are many', () => {
  const { gpu, said: processors } = said()
  const models = Array.from({ length: MAX_PROCESSOR_MODELS + 2 }, (_, i) => model(`model ${i}`))
  gpu.refused.add('model 1')
  processors.noteModels(models)
  expect(processors.state[1]).toEqual({ ...GPU, used: true, refuses: ['model 1'] })
  for (const { id } of models) gpu.refused.add(id)
  processors.noteModels(models)
  expect(processors.state[1]!.refuses).toEqual(models.slice(2).map(({ id }) => id))
  gpu.kind = 'cpu'
  expect(processors.state[1]).not.toHaveProperty('refuses')
  gpu.kind = 'gpu'
  gpu.refused.clear()
  processors.noteModels(models)
  expect(processors.state[1]).not.toHaveProperty('refuses')
})
