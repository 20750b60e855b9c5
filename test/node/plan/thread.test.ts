import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'
import { PlanThread } from '../../../node/plan/thread.ts'

const scenario = (name: string): ScenarioInput =>
  JSON.parse(readFileSync(new URL(`../../scenarios/${name}.json`, import.meta.url), 'utf8'))

test('the planner in its thread answers as the one here, to several at once', async () => {
  const thread = new PlanThread()
  const names = ['llama2-7b-1mbps', 'llama2-13b-10mbps', 'llama2-70b-50mbps']
  const results = await Promise.all(names.map(name => thread.solve(scenario(name))))
  for (const [at, name] of names.entries()) {
    const here = plan(parseScenario(scenario(name)), { explain: false })
    expect(results[at]).toEqual({ ...here, solveMs: expect.any(Number) })
  }
  await thread.stop()
})

test('one device is solved without a thread, as in one', async () => {
  const thread = new PlanThread()
  const { devices, cloud: _, ...others } = scenario('llama2-7b-1mbps')
  const alone = { ...others, devices: devices.slice(0, 1), source: devices[0]!.id, links: {} }
  const here = plan(parseScenario(alone), { explain: false })
  // A thread that was never started cannot be stopped under it.
  const solved = thread.solve(alone)
  await thread.stop()
  expect(await solved).toEqual({ ...here, solveMs: expect.any(Number) })
  await expect(thread.solve({ ...alone, source: 'nobody' })).rejects.toThrow(/nobody/)
})

test('a few devices are solved without a thread where that is wanted, with the same plan', async () => {
  const thread = new PlanThread({ smallHere: true })
  const { devices, cloud: _, ...others } = scenario('llama2-7b-1mbps')
  const few = (count: number) => ({
    ...{ ...others, devices: devices.slice(0, count), source: devices[0]!.id },
    links: { default: { mbps: 50 } }
  })
  const here = plan(parseScenario(few(4)), { explain: false })
  thread.begin(4)
  const solved = thread.solve(few(4))
  await thread.stop()
  expect(await solved).toEqual({ ...here, solveMs: expect.any(Number) })
  const other = new PlanThread()
  await expect(Promise.race([other.solve(few(4)), other.stop()])).rejects.toThrow('stopped')
  await expect(Promise.race([thread.solve(few(5)), thread.stop()])).rejects.toThrow('stopped')
  // What takes long goes there, however small it looks.
  const late = thread.solve(few(4), { budgetMs: 1e-6 })
  await expect(Promise.race([late, thread.stop()])).rejects.toThrow('stopped')
  // There is one that may as well do it.
  thread.begin(5)
  await expect(Promise.race([thread.solve(few(4)), thread.stop()])).rejects.toThrow('stopped')
})

test("what is wrong with a scenario is the caller's error, and the next one is solved", async () => {
  const thread = new PlanThread()
  const good = scenario('llama2-7b-1mbps')
  await expect(thread.solve({ ...good, source: 'nobody' })).rejects.toThrow(/nobody/)
  expect(await thread.solve(good, { method: 'edge-solo' })).toMatchObject({ method: 'edge-solo' })
  await thread.stop()
  await expect(Promise.race([thread.solve(good), thread.stop()])).rejects.toThrow('stopped')
})

test('a hard problem leaves this thread free', async () => {
  const thread = new PlanThread()
  const base = scenario('llama2-70b-50mbps')
  const devices = Array.from({ length: 40 }, (_, i) => ({
    ...base.devices[i % base.devices.length]!,
    id: `device-${i}`,
    memoryBytes: 4e9 + i * 3e8
  }))
  const { cloud: _, ...others } = base
  const hard = { ...others, devices, source: 'device-0', links: { default: { mbps: 50 } } }
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const result = await thread.solve(hard, { budgetMs: 1000 })
  delay.disable()
  expect(result.solveMs).toBeGreaterThan(delay.max / 1e6)
  await thread.stop()
})
