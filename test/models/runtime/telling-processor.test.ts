import { expect, test } from 'vitest'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { TellingProcessor } from '../../../models/runtime/telling-processor.ts'

test('tells of all that was done, and of what failed', async () => {
  let told = 0
  const cpu = new CpuProcessor({ threads: 1, spinUs: 0 })
  const processor = new TellingProcessor(cpu, () => told++)
  expect(processor.joinsSlots).toBe(cpu.joinsSlots)
  expect(processor.mostTokens).toBe(cpu.mostTokens)
  expect(processor.groupsHeads).toBe(cpu.groupsHeads)
  const memory = await processor.allocate(2, [1, 4, 8])
  expect(memory.tensor(0, 2).dims).toEqual([2, 1, 4, 8])
  await processor.constant(Float32Array.of(1, 2), [2])
  expect(told).toBe(2)
  await expect(processor.allocate(1, [-1, 1, 1])).rejects.toThrow()
  expect(told).toBe(3)
})
