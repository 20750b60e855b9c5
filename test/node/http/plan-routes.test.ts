import { readFileSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import type { EdgeNode } from '../../../node/api.ts'
import { ApiError, createClient } from '../../../node/client/index.ts'
import { MAX_PLANNINGS, MAX_SCENARIO_BYTES } from '../../../node/http/constants.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { Planner } from '../../../node/http/planner.ts'
import { parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'
import { fakeNode } from './fake-node.ts'

const SCENARIO: ScenarioInput = JSON.parse(
  readFileSync(new URL('../../scenarios/llama2-7b-1mbps.json', import.meta.url), 'utf8')
)
const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: Partial<EdgeNode> = {}) {
  const server = await startHttpServer({ node: { ...fakeNode(), ...node }, host: '127.0.0.1', port: 0 })
  servers.push(server)
  return createClient({ url: server.url })
}

const withoutTime = (answer: object) => ({ ...answer, solveMs: 0 })

describe('/api/plan', () => {
  test('of a scenario is what the planner says, reasons and all', async () => {
    const client = await serve()
    const here = JSON.parse(JSON.stringify(plan(parseScenario(SCENARIO))))
    const there = await client.planFor(SCENARIO)
    expect(withoutTime(there)).toEqual(withoutTime(here))
    expect(here.left.length).toBeGreaterThan(0)
    expect(await client.planFor(SCENARIO, { method: 'edge-solo' })).toMatchObject({ method: 'edge-solo' })
  })

  test('of devices that list processors names them', async () => {
    const client = await serve()
    const [first, ...others] = SCENARIO.devices
    const { id, memoryBytes, profile } = first as { id: string; memoryBytes: number; profile: string }
    const processors = [
      { id: 'cpu', memoryBytes, profile },
      { id: 'gpu', memoryBytes: 1, profile: 'rtx' }
    ]
    const scenario = { ...SCENARIO, devices: [{ id, processors, processorLinkMbps: 50_000 }, ...others] }
    const answer = await client.planFor(scenario)
    expect(answer).toMatchObject({ feasible: true, optimal: true })
    if (!answer.feasible) return
    expect(answer.stages[0]).toMatchObject({ device: id, processor: 'cpu' })
    expect(answer.left).toContainEqual({
      device: id,
      processor: 'gpu',
      reason: expect.stringContaining('too little memory')
    })
  })

  test('of the mesh is that of its scenario', async () => {
    const asked: unknown[] = []
    const client = await serve({
      scenario: async needs => {
        asked.push(needs)
        return SCENARIO
      }
    })
    expect(await client.plan({ objective: 'latency' })).toMatchObject({ feasible: true, optimal: true })
    expect(asked).toEqual([{ objective: 'latency' }])
  })

  test('a model that fits nowhere is an answer with its reason', async () => {
    const client = await serve()
    const devices = SCENARIO.devices.map(device => ({ ...device, memoryBytes: 1 }))
    expect(await client.planFor({ ...SCENARIO, devices })).toMatchObject({ feasible: false })
  })

  test.each<[string, object, string]>([
    ['no devices', { devices: [] }, 'devices'],
    ['too many', { devices: Array(1025).fill({}) }, 'devices'],
    ['no scenario', { ...SCENARIO, links: 3 }, 'links'],
    ['a source that is none of them', { ...SCENARIO, source: 'nobody' }, 'source'],
    ['an unknown field', { ...SCENARIO, wild: 1 }, 'wild'],
    ['an unknown method', { ...SCENARIO, method: 'magic' }, 'method']
  ])('%s is refused by its name', async (_, scenario, name) => {
    const client = await serve()
    const refusal = await client.planFor(scenario as ScenarioInput).then(
      () => undefined,
      error => error
    )
    expect(refusal).toBeInstanceOf(ApiError)
    expect(refusal).toMatchObject({ status: 400, message: expect.stringContaining(name) })
  })

  test('lists in lists without end are refused, and the next is planned', async () => {
    const client = await serve()
    const nested = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000)) as unknown
    const url = new URL('/api/plan', client.url)
    const deep = `{"devices": [1, 2], "x": ${'['.repeat(100_000)}${']'.repeat(100_000)}}`
    const refused = await fetch(url, { method: 'POST', body: deep })
    expect(nested).toBeInstanceOf(Array)
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('levels deep')])
    expect(await client.planFor(SCENARIO)).toMatchObject({ feasible: true })
  })

  test('more than a mebibyte is not read', async () => {
    const client = await serve()
    const note = 'x'.repeat(MAX_SCENARIO_BYTES)
    await expect(client.planFor({ ...SCENARIO, note })).rejects.toMatchObject({ code: 'body_too_large' })
  })
})

describe('a planner', () => {
  const { signal } = new AbortController()

  test('works out few plans at once, and takes the next when they are there', async () => {
    const planner = new Planner()
    const under = Array.from({ length: MAX_PLANNINGS }, () => planner.solve(SCENARIO, {}, signal))
    await expect(planner.solve(SCENARIO, {}, signal)).rejects.toMatchObject({ code: 'too_many_requests' })
    expect((await Promise.all(under)).map(({ feasible }) => feasible)).toEqual([true, true])
    expect(await planner.solve(SCENARIO, {}, signal)).toMatchObject({ feasible: true })
    planner.stop()
  })

  test('ends what takes too long, and what nobody waits for', async () => {
    const late = new Planner({ deadlineMs: 0 })
    await expect(late.solve(SCENARIO, {}, signal)).rejects.toMatchObject({ code: 'deadline' })
    const left = new Planner()
    const gone = new AbortController()
    const solving = left.solve(SCENARIO, {}, gone.signal)
    gone.abort(new Error('gone'))
    await expect(solving).rejects.toThrow('gone')
    expect(await left.solve(SCENARIO, {}, signal)).toMatchObject({ feasible: true })
    left.stop()
  })
})
