import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledShare, Nodes, until } from '../fixtures/nodes.ts'

const PROCESS = fileURLToPath(new URL('../fixtures/cpu-as-gpu-process.ts', import.meta.url))

// The GPU of these nodes is a CPU in the GPU's process: what is tried here needs no driver.
vi.mock('node:child_process', async original => {
  const real = await original<typeof import('node:child_process')>()
  const fork: typeof real.fork = (entry, ...rest) => {
    const isGpu = String(entry).endsWith('gpu-process.ts')
    return (real.fork as (...args: unknown[]) => ReturnType<typeof real.fork>)(
      isGpu ? PROCESS : entry,
      ...rest
    )
  }
  return { ...real, fork }
})

const drivers = process.env.VK_ICD_FILENAMES
beforeAll(() => {
  process.env.VK_ICD_FILENAMES = '/nowhere/card.json'
})
afterAll(() => {
  if (drivers === undefined) delete process.env.VK_ICD_FILENAMES
  else process.env.VK_ICD_FILENAMES = drivers
})

const QUESTION = ask('What does a thermostat do?', { maxTokens: 24 })

test(
  'a model larger than the card is answered by both processors of one node',
  async () => {
    await using nodes = new Nodes()
    const whole = await nodes.add({ name: 'whole', memoryBytes: await bundledShare(1.5), bundled: true })
    const expected = await answer(whole, QUESTION)

    const gpuMemoryBytes = await bundledShare(0.8)
    const memoryBytes = gpuMemoryBytes + (await bundledShare(0.6))
    const node = await nodes.add({ name: 'both', device: 'gpu', gpuMemoryBytes, memoryBytes, bundled: true })
    const { processors } = node.mesh().self
    expect(processors?.map(({ kind, used, memory }) => [kind, used, memory?.budgetBytes])).toEqual([
      ['cpu', false, memoryBytes - gpuMemoryBytes],
      ['gpu', true, undefined]
    ])
    expect(node.mesh().self.memory.budgetBytes).toBe(gpuMemoryBytes)
    const result = await answer(node, QUESTION)
    expect(result.text).toBe(expected.text)
    expect(result.plan.stages.map(({ processor }) => processor).sort()).toEqual(['cpu', 'gpu'])
    await until(() => Object.keys(node.mesh().self.processors?.[0]?.profiles ?? {}).length > 0)
  },
  deadlineMs(30_000)
)
