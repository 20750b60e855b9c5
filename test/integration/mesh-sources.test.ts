import { describe, expect, it } from 'vitest'
import type { GenerateResult } from '../../node/api.ts'
import type { EdgeNode } from '../../node/index.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'

const PROMPTS = ['What does a thermostat do?', 'Tell me a story about a robot and a lamp.']

/** What any two of three nodes cannot hold, and all three together only once. */
const SHARE = 0.42

describe('two sources at once on a mesh that holds one deployment', () => {
  it('both get their answers, the same as undisturbed ones, whoever is prompted first', async () => {
    await using nodes = new Nodes()
    const alone = await nodes.add({ name: 'alone' })
    const undisturbed = await Promise.all(PROMPTS.map(prompt => answer(alone, ask(prompt))))
    const [a, b, c] = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const pairs: [EdgeNode, EdgeNode][] = [
      [a!, b!],
      [b!, c!],
      [c!, a!],
      [b!, a!]
    ]
    for (const pair of pairs) {
      const answers = await Promise.all(pair.map((node, at) => answer(node, ask(PROMPTS[at]!))))
      for (const [at, { tokens, plan }] of answers.entries()) {
        expect(tokens).toEqual(undisturbed[at]!.tokens)
        expect(new Set(plan.stages.map(({ peerId }) => peerId)).size).toBe(3)
        expect(plan.stages[0]!.peerId).toBe(pair[at]!.peerId)
      }
    }
  })

  it('the next prompt finds everything loaded, until somebody else wanted the memory', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const loads = async (node: EdgeNode) => {
      const phases = new Set<string>()
      for await (const event of node.generate(ask(PROMPTS[0]!, { maxTokens: 5 })))
        if (event.type === 'progress') phases.add(event.phase)
      return phases.has('load')
    }
    expect([await loads(a!), await loads(a!)]).toEqual([true, false])
    expect([await loads(b!), await loads(b!)]).toEqual([true, false])
    expect(await loads(a!)).toBe(true)
  })

  it('a source that is never done does not starve the other', async () => {
    await using nodes = new Nodes()
    const [a, b] = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const first = await answer(a!, ask(PROMPTS[0]!))
    let ended = false
    const greedy: GenerateResult[] = []
    // Two at once, so that the memory is in use at every moment.
    const busy = [0, 1].map(async () => {
      while (!ended) greedy.push(await answer(a!, ask(PROMPTS[0]!)))
    })
    const answers = [await answer(b!, ask(PROMPTS[1]!)), await answer(b!, ask(PROMPTS[1]!))]
    ended = true
    await Promise.all(busy)
    expect(answers[1]!.tokens).toEqual(answers[0]!.tokens)
    expect(greedy.length).toBeGreaterThan(0)
    for (const { tokens } of greedy) expect(tokens).toEqual(first.tokens)
  })

  it('memory in use is waited for until whoever waits gives up, and then it is as if he had never asked', async () => {
    await using nodes = new Nodes()
    const [a, b, c] = await nodes.mesh(['a', 'b', 'c'], SHARE)
    const answering = a!.generate(ask(PROMPTS[1]!, { maxTokens: 200 }))
    while ((await answering.next()).value?.type !== 'text');
    const stop = new AbortController()
    const waiting = b!.generate(ask(PROMPTS[0]!), { signal: stop.signal })
    const refused = expect(waiting.next()).rejects.toThrow('enough')
    // A source that stands in line, wherever it is, is counted as holding what it waits for.
    await until(() => [a, b, c].some(node => node!.mesh().self.memory.freeBytes === 0))
    stop.abort(new Error('enough'))
    await refused
    for await (const _ of answering);
    expect((await answer(c!, ask(PROMPTS[0]!))).plan.stages[0]!.peerId).toBe(c!.peerId)
  })
})
