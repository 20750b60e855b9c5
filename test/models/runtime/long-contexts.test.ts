import { describe, expect, test } from 'vitest'
import type { LayerRange } from '../../../models/layers.ts'
import type { ModelShape } from '../../../models/manifest.ts'
import { CpuProcessor, type MainMemory } from '../../../models/runtime/cpu-processor.ts'
import { checkLongContexts, contextsKey } from '../../../models/runtime/long-contexts.ts'
import type { SlotDims } from '../../../models/runtime/processor.ts'
import { LAYERED, SHAPES, TINY_SHAPE } from '../../fixtures/random-model.ts'

const ONE_THREAD = { threads: 1, spinUs: 0 }

/** Sees of a cache only so many of its tokens: what was said of the others is nothing. */
class ForgetfulProcessor extends CpuProcessor {
  readonly #tokens: number

  constructor(tokens: number) {
    super(ONE_THREAD)
    this.#tokens = tokens
  }

  override async allocate(slots: number, dims: SlotDims): Promise<MainMemory> {
    const memory = await super.allocate(slots, dims)
    const fill = memory.fill.bind(memory)
    const [tokens, width] = dims.slice(-2) as [number, number]
    memory.fill = async values => {
      await fill(values)
      const data = memory.tensor(0, slots).data as Float32Array
      data.forEach((_, i) => {
        if (Math.floor(i / width) % tokens >= this.#tokens) data[i] = 0
      })
    }
    return memory
  }
}

function shapeOf(shape: Partial<ModelShape> = {}): ModelShape {
  return { ...TINY_SHAPE, contextLength: 1400, ...shape }
}

const allOf = ({ decoderLayers }: ModelShape): LayerRange => [0, decoderLayers + 2]

describe('contexts of a thousand tokens and more', () => {
  test.each(Object.entries(SHAPES))('of %s are as the CPU has them', async (_, some) => {
    const shape = shapeOf({ ...some, contextLength: 200 })
    await checkLongContexts(shape, allOf(shape), new CpuProcessor(ONE_THREAD))
    const forgetful = checkLongContexts(shape, allOf(shape), new ForgetfulProcessor(20))
    await expect(forgetful).rejects.toThrow('behind 40 tokens')
  })

  test.each([
    [30, 'behind 40 tokens'],
    [200, 'behind 300 tokens'],
    [900, 'behind 1000 tokens']
  ])('that end behind %i tokens are no such layers', async (tokens, message) => {
    const shape = shapeOf()
    const checking = checkLongContexts(shape, allOf(shape), new ForgetfulProcessor(tokens))
    await expect(checking).rejects.toThrow(message)
  })

  test('are looked at as far as the model goes', async () => {
    const shape = shapeOf({ contextLength: 900 })
    await checkLongContexts(shape, allOf(shape), new ForgetfulProcessor(890))
    await checkLongContexts(shapeOf({ contextLength: 20 }), allOf(shape), new ForgetfulProcessor(0))
  })

  test('of ranges that attend alike have one name', () => {
    const shape = shapeOf(LAYERED)
    expect(contextsKey(shape, [1, 3])).toBe(contextsKey(shape, [1, 3]))
    // What is no decoder layer attends to nothing.
    expect(contextsKey(shape, [0, 1])).toBe(contextsKey(shape, [4, 5]))
    expect(contextsKey(shape, [1, 2])).not.toBe(contextsKey(shapeOf(), [1, 2]))
  })
})
