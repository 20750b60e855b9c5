import { rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateEvent } from '../../node/api.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { answer, ask, bundledManifest, Nodes, nextOf, SECRET, until } from '../fixtures/nodes.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'

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
})

describe('what cannot be answered is refused with a reason', () => {
  it('a prompt that fills the context', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add({ name: 'alone' })
    await expect(answer(node, ask('word '.repeat(5000)))).rejects.toMatchObject({
      name: 'ContextLengthError',
      message: expect.stringMatching(/the prompt has \d+ tokens, but .* has a context of \d+: shorten it/)
    })
  })

  it('an id that no device would take', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add()
    const events = node.generate(ask(PROMPT), { requestId: 'order 17' })
    await expect(events.next()).rejects.toMatchObject({ name: 'RequestError', param: 'requestId' })
  })

  it('a model that nobody holds', async () => {
    await using nodes = new Nodes()
    const node = await nodes.add({ bundled: false })
    await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  })

  it('a model that fits nowhere, with what it needs and what there is', async () => {
    await using nodes = new Nodes()
    const [a] = await nodes.mesh(['a', 'b'], 0.2)
    await expect(answer(a!, ask(PROMPT))).rejects.toMatchObject({
      name: 'PlanRefusedError',
      message: expect.stringMatching(/fits nowhere: .*needs .*\d/)
    })
  })

  it.each([
    ['missing', (path: string) => rm(path)],
    ['cut short', (path: string) => truncate(path, 100)]
  ])('a weight file that is %s: the node says which, and serves on', async (_, damage) => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    const node = await nodes.add({ home })
    const { sha256 } = (await bundledManifest()).layers[3]!
    await damage(join(home, 'store', 'blobs', sha256))
    await expect(answer(node, ask(PROMPT))).rejects.toThrow(sha256.slice(0, 12))
    expect((await node.models()).length).toBe(1)
    expect(node.mesh().leases).toEqual([])
  })

  it('a stranger: no peer, no model, no word', async () => {
    await using nodes = new Nodes()
    const a = await nodes.add({ name: 'a' })
    const stranger = await nodes.add({
      home: await nodes.home(new Uint8Array(SECRET.length).fill(9)),
      bundled: false,
      peers: a.addresses
    })
    await new Promise(resolve => setTimeout(resolve, 1000))
    expect(stranger.mesh().peers).toEqual([])
    expect(a.mesh().peers).toEqual([])
    await expect(answer(stranger, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  })
})

it('a model that another process imports or removes is there, or gone, at once', async () => {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const node = await nodes.add({ home, bundled: false })
  const peer = await nodes.add({ name: 'peer', bundled: false, peers: node.addresses.slice(0, 1) })
  await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
  // As the command line does it, with a store of its own on the same folder.
  const store = await ModelStore.open(join(home, 'store'))
  const [model] = await store.adopt(BUNDLED_DIR)
  await until(async () => (await node.models()).length === 1 && (await peer.models()).length === 1)
  const whole = await answer(peer, ask(PROMPT))
  // From the peer, which has leases for it on both.
  const running = peer.generate(ask(PROMPT))
  const { text } = await nextOf(running, 'text')
  await store.remove(model!.name)
  await until(async () => (await node.models()).length === 0 && (await peer.models()).length === 0)
  expect(text + (await restOf(running))).toBe(whole.text)
  await until(() => [node, peer].every(one => one.mesh().leases.length + one.mesh().deployments.length === 0))
  await expect(answer(node, ask(PROMPT))).rejects.toMatchObject({ name: 'UnknownModelError' })
})

it('goes on to the end of the context where no limit is named', async () => {
  await using nodes = new Nodes()
  const node = await nodes.add()
  const { maxTokens: _, ...request } = ask(PROMPT, { ignoreEos: true })
  const { tokens, promptTokens, finishReason } = await answer(node, request)
  expect(promptTokens + tokens.length).toBe((await bundledManifest()).shape.contextLength)
  expect(finishReason).toBe('length')
})

it('has the bundled model beside one that was imported before, and not once it was removed', async () => {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const dir = join(home, 'store')
  await storeRandomModel(dir, 'mine', { decoderLayers: 1 })
  const first = await nodes.add({ home })
  expect((await first.models()).map(({ name }) => name).sort()).toEqual(['edgeshard-tiny', 'mine'])
  await first.stop()
  const store = await ModelStore.open(dir)
  await store.remove('edgeshard-tiny')
  const second = await nodes.add({ home })
  expect((await second.models()).map(({ name }) => name)).toEqual(['mine'])
  await second.stop()
  expect((await store.adopt(BUNDLED_DIR, { again: true })).map(({ name }) => name)).toEqual([
    'edgeshard-tiny'
  ])
})

async function restOf(events: AsyncGenerator<GenerateEvent>): Promise<string> {
  let text = ''
  for await (const event of events) if (event.type === 'text') text += event.text
  return text
}
