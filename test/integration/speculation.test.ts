import { expect, it } from 'vitest'
import type { GenerateRequest } from '../../node/index.ts'
import { answer, ask, Nodes, nextOf } from '../fixtures/nodes.ts'

const PROMPT = 'Tell me a story about a robot and a lamp.'

it('tokens are the same with guesses and without, greedy and seeded, with a kill in the middle of a window', async () => {
  await using nodes = new Nodes()
  const mesh = await nodes.mesh(['a', 'b', 'c', 'd'], 0.5)
  const source = mesh[0]!
  const request = (over: Partial<GenerateRequest>) => ask(PROMPT, { maxTokens: 56, ...over })
  // What this client was told before is where guesses come from: the second time they are right.
  const guessed = { speculate: 'ngram', conversation: 'mine' } as const
  const seeded = { temperature: 0.8, topP: 0.95, seed: 11 }
  const [greedy, whole] = [await answer(source, request({})), await answer(source, request(seeded))]
  expect([greedy.guesses, whole.guesses]).toEqual([undefined, undefined])
  let held = 0
  for (const [sampling, plain] of [
    [{}, greedy],
    [seeded, whole]
  ] as const) {
    const { tokens, finishReason, guesses } = await answer(source, request({ ...sampling, ...guessed }))
    expect([tokens, finishReason]).toEqual([plain.tokens, plain.finishReason])
    expect(guesses!.sent).toBe(guesses!.held + guesses!.dropped)
    held += guesses!.held
  }

  const events = source.generate(request({ ...seeded, ...guessed }))
  const { plan } = await nextOf(events, 'plan')
  for (let i = 0; i < 12; i++) await nextOf(events, 'text')
  await mesh.find(({ peerId }) => peerId === plan.stages.at(-1)!.peerId)!.stop()
  const { result } = await nextOf(events, 'done')
  expect(result.recoveries).toBe(1)
  expect(result.tokens).toEqual(whole.tokens)
  // One answer alone may find the stages busy from its beginning to its end.
  expect(held + result.guesses!.held).toBeGreaterThan(0)
})
