import { describe, expect, it } from 'vitest'
import type { EdgeNode, GenerateRequest, GenerateResult, PlannedStage } from '../../node/index.ts'
import { answer, ask, bundledManifest, bundledShare, Nodes, nextOf, until } from '../fixtures/nodes.ts'

const PROMPT = 'Tell me a story about a robot and a lamp.'
const SAMPLING = { temperature: 0.8, topP: 0.95, seed: 11, maxTokens: 80 }

/** The share of the model that each device takes: it takes three of them. */
const SHARE = 0.42

/** A fourth device joins, when the others have the model: which devices a plan takes is then nothing that is measured. */
async function addSpare(nodes: Nodes, [source]: readonly EdgeNode[]): Promise<EdgeNode> {
  const peers = source!.addresses.slice(0, 1)
  const memoryBytes = await bundledShare(SHARE)
  const spare = await nodes.add({ name: 'd', memoryBytes, peers, bundled: false })
  await until(() => source!.mesh().peers.some(({ name, connected }) => name === 'd' && connected))
  return spare
}

function holderOf(mesh: readonly EdgeNode[], stage: PlannedStage | undefined): EdgeNode {
  return mesh.find(({ peerId }) => peerId === stage?.peerId)!
}

/** Tokens of an answer that went through the stages. */
function fedTokens({ promptTokens, tokens, finishReason }: GenerateResult): number {
  return promptTokens + tokens.length - (finishReason === 'stop' ? 0 : 1)
}

async function receivedTokens(node: EdgeNode): Promise<number> {
  return node.mesh().self.counters.hiddenBytesReceived / (4 * (await bundledManifest()).shape.hiddenSize)
}

describe('a stage that is lost where a device is to spare', () => {
  it('is replaced in its place: those behind it compute no token of the answer again', async () => {
    await using nodes = new Nodes()
    const whole = await answer(await nodes.add({ name: 'alone' }), ask(PROMPT, SAMPLING))
    const mesh = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const events = mesh[0]!.generate(ask(PROMPT, SAMPLING))
    const { plan } = await nextOf(events, 'plan')
    expect(plan.stages).toHaveLength(3)
    const [, middle, last] = plan.stages
    for (let i = 0; i < 20; i++) await nextOf(events, 'text')
    // The answer does not run ahead of who reads it.
    const spare = await addSpare(nodes, mesh)
    await holderOf(mesh, middle).stop()
    const { result } = await nextOf(events, 'done')
    expect(result.recoveries).toBe(1)
    expect(result.tokens).toEqual(whole.tokens)
    expect(result.plan.stages.map(({ layers }) => layers)).toEqual(plan.stages.map(({ layers }) => layers))
    expect(result.plan.stages[1]!.peerId).toBe(spare.peerId)

    const fed = fedTokens(result)
    expect(await receivedTokens(spare)).toBe(fed)
    // The token that was on its way may have passed both the lost stage and its successor.
    expect([fed, fed + 1]).toContain(await receivedTokens(holderOf(mesh, last)))
  })

  it('leaves the next turn of a conversation what the stages behind it have kept', async () => {
    await using nodes = new Nodes()
    const turns = async (node: EdgeNode, between: () => Promise<void>) => {
      const first = await answer(node, ask('What does a thermostat do?'))
      await between()
      const messages = [
        { role: 'user', content: 'What does a thermostat do?' },
        { role: 'assistant', content: first.text },
        { role: 'user', content: 'What is a pump?' }
      ] satisfies Extract<GenerateRequest['input'], { kind: 'chat' }>['messages']
      return { first, second: await answer(node, { ...ask(''), input: { kind: 'chat', messages } }) }
    }
    const alone = await turns(await nodes.add({ name: 'alone' }), async () => {})
    const mesh = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const [a] = mesh
    const here = await turns(a!, async () => {
      mesh.push(await addSpare(nodes, mesh))
      const { stages } = a!.mesh().deployments[0]!.plan
      await holderOf(mesh, stages[1]).stop()
      await until(() => a!.mesh().peers.filter(({ connected }) => connected).length === 2)
    })
    const stages = (answer: typeof here.first) => answer.plan.stages.map(({ layers }) => layers)
    expect(stages(here.second)).toEqual(stages(here.first))
    expect(here.second.plan.stages).not.toEqual(here.first.plan.stages)
    const { cachedTokens } = alone.second
    expect(cachedTokens).toBeGreaterThan(0)
    const fed = fedTokens(here.first) + fedTokens(here.second)
    expect(await receivedTokens(holderOf(mesh, here.second.plan.stages[1]))).toBe(fedTokens(here.second))
    expect(await receivedTokens(holderOf(mesh, here.second.plan.stages[2]))).toBe(fed - cachedTokens)
    expect(here.second.tokens).toEqual(alone.second.tokens)
  })
})

it('a model that is placed again finds loaded what stays where it was', async () => {
  await using nodes = new Nodes()
  const [a] = await nodes.mesh(['a', 'b'], 0.9)
  // A plan that no measurement moves between the two answers.
  const method = 'edgeshard-even'
  const request = {
    ...ask('What is a pump?', { maxTokens: 4 }),
    placement: { method }
  } satisfies GenerateRequest
  const first = await answer(a!, request)
  const loads: string[] = []
  // Another way to run the same plan is another deployment.
  for await (const event of a!.generate({ ...request, placement: { method, strategy: 'bubble' } })) {
    if (event.type === 'progress') loads.push(`${event.phase} at ${event.peer}`)
    if (event.type === 'done') expect(event.result.plan.stages).toEqual(first.plan.stages)
  }
  expect(first.plan.stages).toHaveLength(2)
  expect(loads).toEqual([])
})
