import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import type { SampledToken } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateRequest, GenerateResult, Strategy } from '../../node/api.ts'
import type { EdgeNode } from '../../node/index.ts'
import { answer, ask, bundledShare, Nodes, nextOf, until } from '../fixtures/nodes.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'
import { storePoisonedModel } from '../fixtures/stored-model.ts'

const PROMPTS = [
  'What does a thermostat do?',
  'What does a camera do?',
  'What is a pump?',
  'What does a sensor do?',
  'What does a compressor do?',
  'What does a fan do?'
]
/** An answer of which only the length matters. */
const STORY = 'Tell me a story about a robot and a lamp.'
/**
 * A step of several sequences rounds otherwise than a step of one, by 0.12 in log-probability at most as measured, so
 * answers are only alike where the likeliest token leads by more: these prompts' do, on every processor.
 */
const CLEAR_LEAD = 1

const together = (node: EdgeNode, over: Partial<GenerateRequest>): Promise<GenerateResult[]> =>
  Promise.all(PROMPTS.map(prompt => answer(node, ask(prompt, over))))

/** The tokens of every answer alone, on one node that holds the whole model. */
let expected: number[][]
beforeAll(async () => {
  await using nodes = new Nodes()
  const alone = await nodes.add({ name: 'alone' })
  expected = []
  for (const prompt of PROMPTS) {
    const tokens: SampledToken[] = []
    for await (const event of alone.generate(ask(prompt, { topLogprobs: 2 }))) {
      if (event.type === 'text') tokens.push(...event.logprobs)
      if (event.type === 'done') expected.push(event.result.tokens)
    }
    const leads = tokens.map(({ top: [best, second] }) => best!.logprob - second!.logprob)
    expect(Math.min(...leads), prompt).toBeGreaterThan(CLEAR_LEAD)
  }
})

/** No session is open anywhere, and every lease waits for the next one. */
const atRest = (nodes: EdgeNode[]) => () =>
  nodes.every(node => {
    const { sessions, leases } = node.mesh()
    return sessions === 0 && leases.every(lease => lease.sessions === 0)
  })

describe('requests at once', () => {
  it.each<Strategy>(['no-bubble', 'bubble'])(
    'decode together over three nodes (%s), each as if it were alone',
    async strategy => {
      await using nodes = new Nodes()
      const mesh = await nodes.mesh(['a', 'b', 'c'], 1.3)
      const [a] = mesh
      const batch = PROMPTS.length
      const placement = { strategy, batch, microBatches: 2, method: 'edgeshard-even' as const }
      const answers = await together(a!, { objective: 'throughput', placement })
      expect(answers.map(({ tokens }) => tokens)).toEqual(expected)
      expect(answers[0]!.plan.stages).toHaveLength(3)
      // Fewer frames than tokens: one carries a token of each session of its micro-batch.
      const tokens = answers.reduce((sum, { tokens }) => sum + tokens.length, 0)
      const { framesSent } = a!.mesh().self.counters
      expect(framesSent).toBeLessThan(0.7 * tokens)
      await until(atRest(mesh))
    }
  )

  it('one that is cancelled leaves the others and its place', async () => {
    await using nodes = new Nodes()
    const mesh = await nodes.mesh(['a', 'b', 'c'], 1.3)
    const [a] = mesh
    const over = { objective: 'throughput', placement: { batch: PROMPTS.length } } as const
    const abort = new AbortController()
    const cancelled = a!.generate(ask(STORY, { ...over, maxTokens: 200 }), { signal: abort.signal })
    await nextOf(cancelled, 'text')
    const others = together(a!, over)
    await nextOf(cancelled, 'text')
    abort.abort(new Error('the client left'))
    await expect(nextOf(cancelled, 'done')).rejects.toThrow('the client left')
    expect((await others).map(({ tokens }) => tokens)).toEqual(expected)
    await until(atRest(mesh))
  })

  it('a reader that stops reading holds up nobody but itself', async () => {
    await using nodes = new Nodes()
    const [a] = await nodes.mesh(['a', 'b'], 4)
    const slow = a!.generate(ask(STORY, { maxTokens: 100 }))
    await nextOf(slow, 'text')
    const { tokens } = await answer(a!, ask(PROMPTS[0]!))
    expect(tokens.length).toBeGreaterThan(10)
    expect(a!.mesh().deployments[0]!.sessions).toBe(1)
    const rest = await nextOf(slow, 'done')
    expect(rest.result.tokens.length).toBeGreaterThan(50)
  })

  it.each(['progress', 'plan', 'text'] as const)(
    'a reader that leaves at the first %s leaves nothing behind',
    async type => {
      await using nodes = new Nodes()
      const mesh = await nodes.mesh(['a', 'b', 'c'], 0.42)
      for await (const event of mesh[0]!.generate(ask(STORY))) if (event.type === type) break
      await until(atRest(mesh))
      // One that needs another deployment gets it.
      const next = await answer(mesh[0]!, ask(PROMPTS[0]!, { privacy: 'sealed' }))
      expect(next.tokens).toEqual(expected[0])
    }
  )

  it('more than there is room for wait for each other', async () => {
    await using nodes = new Nodes()
    const mesh = await nodes.mesh(['a', 'b', 'c'], 0.42)
    const answers = await together(mesh[0]!, {})
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected)
    await until(atRest(mesh))
  })

  it('all go on with the same tokens when a stage is lost', async () => {
    await using nodes = new Nodes()
    const [a, b, c] = await nodes.mesh(['a', 'b', 'c'], 0.9)
    const over = { objective: 'throughput', placement: { batch: 2 } } as const
    const first = a!.generate(ask(PROMPTS[1]!, { ...over, maxTokens: 60 }))
    const { plan } = await nextOf(first, 'plan')
    const victim = [b!, c!].find(({ peerId }) => plan.stages.some(stage => stage.peerId === peerId))!
    const second = answer(a!, ask(PROMPTS[0]!, over))
    await nextOf(first, 'text')
    await victim.stop()
    const { result } = await nextOf(first, 'done')
    expect(result.recoveries).toBe(1)
    expect(result.tokens).toEqual(expected[1])
    expect((await second).tokens).toEqual(expected[0])
  })
})

describe('a session whose numbers are no longer finite', () => {
  /** A token that the second prompt's answer draws on its way and that no other one does. */
  const poison = () =>
    expected[1]!.findLast((token, at) => {
      return at < 30 && expected.every((tokens, i) => i === 1 || !tokens.includes(token))
    })!

  it.each<[string, string[], number, Partial<GenerateRequest>]>([
    ['one node', ['a'], 4, { placement: { batch: PROMPTS.length } }],
    ['three nodes', ['a', 'b', 'c'], 4, { placement: { batch: PROMPTS.length, method: 'edgeshard-even' } }],
    ['two nodes, the tail at the source', ['a', 'b'], 0.85, { privacy: 'sealed', placement: { batch: 2 } }]
  ])('ends alone on %s; those that share its steps answer as ever', async (_, names, share, over) => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    await storePoisonedModel(join(home, 'store'), 'poisoned', poison())
    const memoryBytes = await bundledShare(share)
    const a = await nodes.add({ home, name: 'a', bundled: false, memoryBytes })
    const mesh = [a]
    for (const name of names.slice(1)) {
      mesh.push(await nodes.add({ name, bundled: false, memoryBytes, peers: a.addresses.slice(0, 1) }))
    }
    await until(() =>
      mesh.every(node => node.mesh().peers.filter(p => p.connected).length === names.length - 1)
    )
    const answers = await together(a, { model: 'poisoned', objective: 'throughput', ...over })
    const peers = answers[0]!.plan.stages.map(({ name }) => name)
    expect(peers).toEqual(over.privacy === 'sealed' ? ['a', 'b', 'a'] : names)
    const [bad] = answers.splice(1, 1)
    expect(answers.map(({ tokens }) => tokens)).toEqual(expected.toSpliced(1, 1))
    expect(answers.map(({ recoveries }) => recoveries)).toEqual(answers.map(() => 0))
    expect(bad).toMatchObject({ finishReason: 'error', recoveries: 0 })
    expect(bad!.error).toContain('not finite')
    expect(bad!.tokens).toEqual(expected[1]!.slice(0, expected[1]!.indexOf(poison()) + 1))
    await until(atRest(mesh))
    // Alone it leaves idle leases behind, too.
    const again = await answer(a, ask(PROMPTS[1]!, { model: 'poisoned', objective: 'throughput', ...over }))
    expect(again).toMatchObject({ finishReason: 'error', recoveries: 0, tokens: bad!.tokens })
    await until(() =>
      mesh.every(node => node.mesh().self.memory.freeBytes === node.mesh().self.memory.budgetBytes)
    )
  })
})

describe.skipIf(!hasSharedData)('a crowd on a float32 model', () => {
  it('gets the tokens that each would get alone, coming and going over few slots', async () => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    await importModel(sharedData('stories260k/hf'), await ModelStore.open(join(home, 'store')), {
      name: 'f32'
    })
    const a = await nodes.add({ home, name: 'a', bundled: false })
    const peers = a.addresses.slice(0, 1)
    const others = [
      await nodes.add({ name: 'b', bundled: false, peers }),
      await nodes.add({ name: 'c', bundled: false, peers })
    ]
    await until(() => [a, ...others].every(node => node.mesh().peers.filter(p => p.connected).length === 2))
    // Nothing is rounded to 8 bits here, so a difference would be a mistake: another session's KV cache, a wrong position.
    const requests: GenerateRequest[] = Array.from({ length: 24 }, (_, i) => ({
      model: 'f32',
      input: {
        kind: 'raw',
        text: `${['Once', 'One day', 'Tom and', 'The big'][i % 4]} ${'very '.repeat(i % 5)}`
      },
      maxTokens: 8 + ((i * 7) % 40),
      temperature: i % 3 === 0 ? 0.9 : 0,
      seed: i
    }))
    const alone: number[][] = []
    for (const request of requests) alone.push((await answer(a, request)).tokens)
    const placement = { method: 'edgeshard-even', batch: 6, microBatches: 2 } as const
    const crowd = await Promise.all(
      requests.map(request => answer(a, { ...request, objective: 'throughput', placement }))
    )
    expect(crowd[0]!.plan.stages).toHaveLength(3)
    expect(crowd.map(({ tokens }) => tokens)).toEqual(alone)
    await until(atRest([a, ...others]))
  })
})

describe('the next turn of a conversation', () => {
  const turn = (question: string, reply?: string): GenerateRequest['input'] => ({
    kind: 'chat',
    messages: [
      { role: 'user', content: PROMPTS[0]! },
      ...(reply === undefined ? [] : [{ role: 'assistant', content: reply }]),
      ...(reply === undefined ? [] : [{ role: 'user', content: question }])
    ]
  })

  // A token that was decoded has another KV entry, to the last bit, than one that came in a prompt. So a reply from the
  // cache is compared with one from a cache, and a fresh one with a fresh one.
  it('goes on from the KV cache of the last one, with the reply of one node that does so too', async () => {
    await using nodes = new Nodes()
    const alone = await nodes.add({ name: 'alone' })
    const [a] = await nodes.mesh(['a', 'b', 'c'], 0.6)
    const chat = { conversation: 'mine', temperature: 0, maxTokens: 60 }
    const twoTurns = async (node: EdgeNode) => {
      const first = await answer(node, { ...chat, input: turn('') })
      return { first, second: await answer(node, { ...chat, input: turn('And a pump?', first.text) }) }
    }
    const { first, second } = await twoTurns(a!)
    expect(first.plan.stages.length).toBeGreaterThan(1)
    expect(first.cachedTokens).toBe(0)
    expect(second.cachedTokens).toBe(first.promptTokens + first.tokens.length)
    const expected = await twoTurns(alone)
    expect(expected.second.cachedTokens).toBe(second.cachedTokens)
    expect(second.tokens).toEqual(expected.second.tokens)
  })

  it('finds nothing under another name, though every word is the same', async () => {
    await using nodes = new Nodes()
    const alone = await nodes.add({ name: 'alone' })
    const [a] = await nodes.mesh(['a', 'b'], 4)
    const chat = { temperature: 0, maxTokens: 60 }
    const first = await answer(a!, { ...chat, conversation: 'mine', input: turn('') })
    const input = turn('And a pump?', first.text)
    const other = await answer(a!, { ...chat, conversation: 'yours', input })
    expect(other.cachedTokens).toBe(0)
    expect(other.tokens).toEqual((await answer(alone, { ...chat, input })).tokens)
    const own = await answer(a!, { ...chat, conversation: 'mine', input })
    expect(own.cachedTokens).toBe(first.promptTokens + first.tokens.length)
  })
})
