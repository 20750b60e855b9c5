import { describe, expect, it } from 'vitest'
import { answer, ask, bundledManifest, Nodes, nextOf, until } from '../fixtures/nodes.ts'

const PROMPT = 'What does a thermostat do?'

describe('an answer of several nodes', () => {
  it('equals the answer of one that holds everything, from whichever node it is asked', async () => {
    await using nodes = new Nodes()
    const alone = await nodes.add({ name: 'alone' })
    const whole = await answer(alone, ask(PROMPT))
    expect(whole.plan.stages).toHaveLength(1)
    const [a, b, c] = await nodes.mesh(['a', 'b', 'c'], 0.42)
    for (const source of [a!, c!, b!]) {
      const split = await answer(source, ask(PROMPT))
      expect(split.plan.stages.length).toBeGreaterThan(1)
      expect(split.plan.stages[0]!.peerId).toBe(source.peerId)
      expect(split.tokens).toEqual(whole.tokens)
      expect(split.text).toBe(whole.text)
    }
  })

  it('tells the mesh only of models of which it holds layers', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b'], 0.7)
    expect((await b!.models()).map(({ name }) => name)).toEqual(['edgeshard-tiny'])
    expect(b!.mesh().self.models).toEqual([])
    await answer(a!, ask(PROMPT))
    await until(() => b!.mesh().self.models.length === 1)
    expect(b!.mesh().self.models[0]!.layers.length).toBeGreaterThan(0)
    expect(b!.mesh().fetches).toEqual([])
  })

  it('draws the same tokens for the same seed, wherever the head is', async () => {
    await using nodes = new Nodes()
    const request = ask(PROMPT, { temperature: 0.9, topP: 0.95, seed: 7 })
    const whole = await answer(await nodes.add({ name: 'alone' }), request)
    const [a] = await nodes.mesh(['a', 'b'], 0.7)
    expect((await answer(a!, request)).tokens).toEqual(whole.tokens)
    const sealed = await answer(a!, { ...request, privacy: 'sealed' })
    expect(sealed.plan.stages.at(-1)!.peerId).toBe(a!.peerId)
    expect(sealed.tokens).toEqual(whole.tokens)
  })

  it('sends hidden states of every token once from each stage to the next, and nothing else of that kind', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b'], 0.7)
    const { promptTokens, tokens, plan, finishReason } = await answer(a!, ask(PROMPT))
    const { hiddenSize } = (await bundledManifest()).shape
    const fedBack = tokens.length - (finishReason === 'stop' ? 0 : 1)
    const bytes = (promptTokens + fedBack) * hiddenSize * 4
    for (const node of [a!, b!]) {
      const hops = plan.stages.slice(0, -1).filter(({ peerId }) => peerId === node.peerId).length
      expect(node.mesh().self.counters.hiddenBytesSent).toBe(hops * bytes)
    }
  })

  it('is in the directory of every node: whose layers are where', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b'], 0.7)
    const { plan } = await answer(a!, ask(PROMPT))
    const { layers } = plan.stages.find(({ peerId }) => peerId === b!.peerId)!
    const modelId = a!.mesh().deployments[0]!.modelId
    const leases = () => a!.mesh().peers[0]!.leases
    await until(() => leases().length > 0)
    expect(leases()).toEqual([{ modelId, layers, source: a!.peerId }])
  })

  it('leaves no session behind, and gives its memory to whoever is prompted next', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b'], 0.7)
    const cut = a!.generate(ask(PROMPT))
    await nextOf(cut, 'text')
    await cut.return(undefined)
    await until(() => [a!, b!].every(node => node.mesh().leases.every(({ sessions }) => sessions === 0)))
    expect((await answer(b!, ask(PROMPT))).plan.stages[0]!.peerId).toBe(b!.peerId)
    await until(() =>
      [a!, b!].every(node => node.mesh().self.memory.freeBytes === node.mesh().self.memory.budgetBytes)
    )
  })

  it('goes on to the end of the context where no limit is named', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add()
    const { maxTokens: _, ...request } = ask(PROMPT, { ignoreEos: true })
    const { tokens, promptTokens, finishReason } = await answer(node, request)
    expect(promptTokens + tokens.length).toBe((await bundledManifest()).shape.contextLength)
    expect(finishReason).toBe('length')
  })
})
