import type { ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { NodeRecord } from '../../node/api.ts'
import { peersTable } from '../../node/cli/commands/peers.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledShare, Nodes, nextOf, until } from '../fixtures/nodes.ts'

const gpuProcesses: ChildProcess[] = vi.hoisted(() => [])
const PROCESS = fileURLToPath(new URL('../fixtures/cpu-as-gpu-process.ts', import.meta.url))

// The GPU of these nodes is a CPU in the GPU's process: what is tried here needs no driver.
vi.mock('node:child_process', async original => {
  const real = await original<typeof import('node:child_process')>()
  const fork: typeof real.fork = (entry, ...rest) => {
    const isGpu = String(entry).endsWith('gpu-process.ts')
    const child = (real.fork as (...args: unknown[]) => ChildProcess)(isGpu ? PROCESS : entry, ...rest)
    if (isGpu) gpuProcesses.push(child)
    return child
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

const BOTH = new Set(['cpu', 'gpu'])
const QUESTION = ask('What does a thermostat do?', { maxTokens: 24 })

test('a model larger than the card is answered by both processors of a node, whoever is asked', {
  timeout: deadlineMs(60_000)
}, async () => {
  await using nodes = new Nodes()
  // Neither has the room for what another device leaves over, so that a plan needs both, whatever was measured.
  const gpuMemoryBytes = await bundledShare(0.6)
  const memoryBytes = gpuMemoryBytes + (await bundledShare(0.6))
  const node = await nodes.add({ name: 'both', device: 'gpu', gpuMemoryBytes, memoryBytes, bundled: true })
  const { processors, memory } = node.mesh().self
  expect(processors?.map(({ kind, used, memory }) => [kind, used, memory?.budgetBytes])).toEqual([
    ['cpu', false, memoryBytes - gpuMemoryBytes],
    ['gpu', true, undefined]
  ])
  expect(memory.budgetBytes).toBe(gpuMemoryBytes)
  const alone = await answer(node, QUESTION)
  expect(alone.text).toContain('A thermostat keeps a room at the temperature')
  // Which of them has the head besides is the planner's, by what it has measured.
  expect(new Set(alone.plan.stages.map(({ processor }) => processor))).toEqual(BOTH)
  // A plan waits for a device's own times for a moment only: what was not timed for it is timed when the device is idle.
  const times = ({ processors, profiles }: NodeRecord) =>
    [profiles, processors?.[0]?.profiles ?? {}].map(Object.keys)
  const areTimed = (record: NodeRecord) => times(record).every(({ length }) => length === 1)
  await until(() => areTimed(node.mesh().self))

  const desk = await nodes.add({
    name: 'desk',
    memoryBytes: await bundledShare(0.35),
    peers: node.addresses.slice(0, 1),
    bundled: false
  })
  const seen = () => desk.mesh().peers[0]
  await until(() => seen()?.connected === true && areTimed(seen()!))
  expect(peersTable(desk.mesh(), undefined)).toContain('on its CPU')
  const shared = await answer(desk, QUESTION)
  expect(shared.text).toBe(alone.text)
  const { stages } = shared.plan
  expect(stages[0]).not.toHaveProperty('processor')
  const there = stages.filter(({ name }) => name === 'both')
  expect(new Set(there.map(({ processor }) => processor))).toEqual(BOTH)
  expect(new Set(stages.map(({ name }) => name))).toEqual(new Set(['desk', 'both']))
  expect(node.mesh().leases.map(({ source }) => source)).toContain(desk.peerId)

  // The card dies during an answer: the CPU has its place, and all of the memory for it.
  const events = node.generate(QUESTION)
  await nextOf(events, 'text')
  gpuProcesses.at(-1)!.kill('SIGKILL')
  const { result } = await nextOf(events, 'done')
  expect(result.text).toBe(alone.text)
  expect(result.recoveries).toBe(1)
  expect(result.plan.stages.every(({ processor }) => processor === undefined)).toBe(true)
  await until(() => node.mesh().self.memory.budgetBytes === memoryBytes)
  expect(node.mesh().self.processors?.map(({ used, memory }) => [used, memory])).toEqual([
    [true, undefined],
    [false, undefined]
  ])
})
