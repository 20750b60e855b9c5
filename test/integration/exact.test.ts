import { expect, it } from 'vitest'
import { PREFILL_CHUNK_TOKENS } from '../../models/runtime/hidden.ts'
import type { EdgeNode, GenerateRequest, GenerateResult } from '../../node/index.ts'
import { ask, Nodes, nextOf } from '../fixtures/nodes.ts'

const PROMPTS = ['What does a thermostat do?', 'Tell me a story about a robot and a lamp.', 'What is a pump?']
const EXACT = { exact: true, temperature: 0.9, topP: 0.95, seed: 3, topLogprobs: 20, maxTokens: 80 } as const

/** What was drawn, with the probabilities to the bit. */
interface Drawn {
  result: GenerateResult
  drawn: string
}

async function drawnOf(events: ReturnType<EdgeNode['generate']>, before: unknown[] = []): Promise<Drawn> {
  const logprobs = [...before]
  for await (const event of events) {
    if (event.type === 'text') logprobs.push(...event.logprobs)
    if (event.type === 'done') return { result: event.result, drawn: JSON.stringify(logprobs) }
  }
  throw new Error('the answer ended without a result')
}

const next = (prompt: string, first: GenerateResult, over: Partial<GenerateRequest>): GenerateRequest => ({
  ...ask('', { ...EXACT, ...over }),
  input: {
    kind: 'chat',
    messages: [
      { role: 'user', content: prompt },
      { role: 'assistant', content: first.text },
      { role: 'user', content: 'What is a fan?' }
    ]
  }
})

it('an exact answer has the same bits alone, cut, in a batch, after a loss, and behind a KV cache', async ctx => {
  await using nodes = new Nodes()
  const alone = await nodes.add({ name: 'alone' })
  const expected: Drawn[] = []
  for (const prompt of PROMPTS) expected.push(await drawnOf(alone.generate(ask(prompt, EXACT))))
  // Kernels decide, and this machine's may not keep it: then there is nothing to compare.
  if (!expected.every(({ result }) => result.exact === true))
    ctx.skip('the kernels of this machine do not keep bits')

  const mesh = await nodes.mesh(['a', 'b', 'c', 'd'], 0.55)
  const [a] = mesh
  const together = await Promise.all(PROMPTS.map(prompt => drawnOf(a!.generate(ask(prompt, EXACT)))))
  expect(together.map(({ drawn }) => drawn)).toEqual(expected.map(({ drawn }) => drawn))
  expect(together.map(({ result }) => result.exact)).toEqual([true, true, true])

  // Fresh where no cache may serve it, and behind what the first turn left.
  const [prompt, first] = [PROMPTS[0]!, expected[0]!.result]
  const fresh = await drawnOf(alone.generate(next(prompt, first, { conversation: 'another' })))
  const turns = async () => {
    await drawnOf(a!.generate(ask(prompt, EXACT)))
    return await drawnOf(a!.generate(next(prompt, first, {})))
  }
  // A placement that moves between two turns begins with empty caches.
  let cached = await turns()
  for (let again = 0; again < 3 && cached.result.cachedTokens === 0; again++) cached = await turns()
  expect([fresh.result.cachedTokens, cached.result.cachedTokens > 0]).toEqual([0, true])
  expect(cached.drawn).toBe(fresh.drawn)

  // Behind a cache that is cut where the prompts part: asked again, and another question behind the same words.
  const mine = { ...EXACT, conversation: 'mine' }
  const others = [PROMPTS[1]!, `${PROMPTS[1]!.slice(0, 30)} fan and a door.`]
  const anew = await Promise.all(
    others.map((text, i) => drawnOf(alone.generate(ask(text, { ...EXACT, conversation: `fresh ${i}` }))))
  )
  expect(anew.map(({ result }) => result.cachedTokens)).toEqual([0, 0])
  const cutOf = async (i: number) => {
    const { drawn, result } = await drawnOf(a!.generate(ask(others[i]!, mine)))
    expect(drawn).toBe(anew[i]!.drawn)
    return result.cachedTokens
  }
  let cut = await cutOf(0)
  expect(cut).toBe(0)
  // As above.
  for (let again = 0; again < 3 && cut === 0; again++) cut = await cutOf(0)
  expect(cut).toBe(anew[0]!.result.promptTokens - 1)
  await cutOf(1)

  const events = a!.generate(ask(PROMPTS[1]!, EXACT))
  const { plan } = await nextOf(events, 'plan')
  expect(plan.stages.length).toBeGreaterThan(1)
  const begun: unknown[] = []
  while (begun.length < 8) begun.push(...(await nextOf(events, 'text')).logprobs)
  await mesh.find(({ peerId }) => peerId === plan.stages[1]!.peerId)!.stop()
  const recovered = await drawnOf(events, begun)
  expect(recovered.result.recoveries).toBeGreaterThan(0)
  expect(recovered.drawn).toBe(expected[1]!.drawn)
})

it('an answer that is asked for again has the same bits: its prompt goes on from between two of its steps', async () => {
  await using nodes = new Nodes()
  const node = await nodes.add()
  const text = PROMPTS.join(' ').repeat(3)
  const request = ask(text, { ...EXACT, exact: false, conversation: 'mine', maxTokens: 24 })
  const first = await drawnOf(node.generate(request))
  const again = await drawnOf(node.generate(request))
  const { promptTokens } = first.result
  const steps = Math.floor((promptTokens - 1) / PREFILL_CHUNK_TOKENS)
  expect([first.result.cachedTokens, again.result.cachedTokens]).toEqual([0, steps * PREFILL_CHUNK_TOKENS])
  expect(again.drawn).toBe(first.drawn)
})
