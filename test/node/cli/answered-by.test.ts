import { expect, test } from 'vitest'
import { answeredBy, explanationLines, reasonsFor } from '../../../node/cli/answered-by.ts'
import { figuresLine, planLine, timesLines } from '../../../node/cli/run-progress.ts'
import { parseScenario, plan } from '../../../node/plan/index.ts'
import { shortIds, shortNames } from '../../../node/short-names.ts'
import { fakeNode, MOVE, RESULT } from '../http/fake-node.ts'

const DESK = '12D3KooWDesk'
const LAPTOP = '12D3KooWLaptop'
const names = new Map([
  [DESK, 'desk'],
  [LAPTOP, 'laptop']
])

/** What the planner makes of two devices, the first of which is prompted. */
function planned(memoryBytes: [number, number], { mbps = 1 } = {}) {
  const devices = [DESK, LAPTOP].map((id, at) => ({ id, memoryBytes: memoryBytes[at]!, profile: 'p' }))
  const layers = [{ kind: 'decoder', count: 4, weightBytes: 100, activationBytes: 64, kvBytesPerToken: 0 }]
  return plan(
    parseScenario({
      devices,
      source: DESK,
      links: { default: { mbps, latencyMs: 5 } },
      model: { name: 'tiny', layers },
      profiles: { p: { decoder: { decodeMs: 1 } } },
      workload: { promptTokens: 4, newTokens: 3, batch: 1, contextTokens: 16 }
    })
  )
}

const resultOf = (...ids: string[]) => ({
  ...RESULT,
  tpotMs: 5.5,
  plan: {
    stages: ids.map(peerId => ({
      peerId,
      name: names.get(peerId)!,
      layers: [0, 4] as [number, number],
      weightBytes: 1
    }))
  }
})

test('a device that answered alone is named with the time a token, and the others with why they did not', () => {
  expect(answeredBy(resultOf(DESK), { plan: planned([400, 400]), names })).toMatch(
    /^answered by desk alone, 5\.5 ms a token; laptop is not used: every plan with it takes at least [\d.]+ ms a token, [\d.]+ ms more: /
  )
})

test('where all reasons follow the line has none itself', () => {
  const reasons = { plan: planned([400, 400]), names }
  expect(answeredBy(resultOf(DESK), reasons, { explained: true })).toBe(
    'answered by desk alone, 5.5 ms a token'
  )
})

test('where there is nobody else that is why', () => {
  const alone = new Map([[DESK, 'desk']])
  const only = { ...planned([400, 400]), left: [] }
  expect(answeredBy(resultOf(DESK), { plan: only, names: alone })).toBe(
    'answered by desk alone, 5.5 ms a token; there is no other device'
  )
})

test('devices that answered together are named with what would help most', () => {
  expect(answeredBy(resultOf(DESK, LAPTOP), { plan: planned([300, 400]), names })).toMatch(
    /^answered by desk and laptop, 5\.5 ms a token; what would help most: 100 B more on desk: [\d.]+ ms a token instead of [\d.]+ ms a token$/
  )
})

test('a plan that has become another one since is said to have', () => {
  expect(answeredBy(resultOf(DESK, LAPTOP), { plan: planned([400, 400]), names })).toBe(
    'answered by desk and laptop, 5.5 ms a token; placed anew it would be desk'
  )
})

test('without reasons the line says who, how fast, and what was lost', () => {
  expect(answeredBy({ ...resultOf(DESK, LAPTOP), recoveries: 1 })).toBe(
    'answered by desk and laptop after 1 lost on the way, 5.5 ms a token'
  )
  expect(answeredBy({ ...resultOf(DESK), tokens: [1], tpotMs: 0 })).toBe(
    'answered by desk alone, first token after 12.5 ms'
  )
})

test('all reasons have a line each, with names for ids and no control characters', () => {
  const hostile = new Map([...names, [LAPTOP, 'lap\u001b[2J\ntop']])
  const made = planned([300, 400])
  const [, , ...lines] = explanationLines(resultAs(made), { plan: made, names: hostile })
  expect(lines[0]).toMatch(/^planned: desk \[0, \d\) -> lap \[2J top \[\d, 4\), no plan is better$/)
  expect(lines.slice(1)).toEqual([
    expect.stringMatching(
      /^held up by the memory of desk: with 100 B more on desk [\d.]+ ms a token instead of [\d.]+ ms a token$/
    ),
    expect.stringMatching(/^held up by the link desk - lap \[2J top: with 2 Mbps on desk - lap \[2J top /),
    expect.stringMatching(/^held up by the compute of desk: with desk 10 % faster /),
    expect.stringMatching(/^held up by the compute of lap /)
  ])
  expect(lines.join('')).not.toMatch(/12D3|\p{Cc}/u)
})

/** An answer by the very stages of a plan. */
function resultAs(made: ReturnType<typeof planned>) {
  if (!made.feasible) throw new Error('it fits')
  const stages = made.stages.map(({ device, layers }) => ({
    peerId: device,
    name: names.get(device)!,
    layers,
    weightBytes: 1
  }))
  return { ...resultOf(DESK), plan: { stages } }
}

test('what was predicted of an answer stands above what it took, both from the request on', () => {
  const { predicted, ...result } = resultOf(DESK)
  const cold = { ...result, ttftMs: 1480, predicted: { ...predicted, waitedMs: 400, loadMs: 890 } }
  expect(timesLines(cold)).toEqual([
    'predicted: first token 1.30 s (planning and waiting 400.0 ms, loading 890.0 ms, the prompt 10.0 ms), then 3.0 ms a token',
    'measured:  first token 1.48 s, then 5.5 ms a token'
  ])
  expect(timesLines({ ...result, predicted })[0]).toBe('predicted: first token 10.0 ms, then 3.0 ms a token')
  expect(timesLines({ ...result, predicted, tpotMs: 0 })).toEqual([
    'predicted: first token 10.0 ms',
    'measured:  first token 12.5 ms'
  ])
})

test('of an answer that had several plans, a token was predicted by all of them', () => {
  const { predicted, ...result } = resultOf(DESK)
  const part = { plan: result.plan, tokens: 1, tpotMs: 5 }
  const stretches = [3, 6].map(tpotMs => ({ ...part, predicted: { ...predicted, tpotMs } }))
  expect(timesLines({ ...result, predicted, stretches })[0]).toContain(
    'then 4.5 ms a token, the mean of its 2 plans'
  )
})

test('a plan that has become another one since has a time of its own, and is not called the one of the answer', () => {
  const made = planned([400, 400])
  const lines = explanationLines(resultOf(DESK, LAPTOP), { plan: made, names })
  expect(lines[2]).toBe('placed anew: desk [0, 4), 4.0 ms a token by what is known now; no plan is better')
})

test('a model that fits nowhere any more is said to, with what would help', () => {
  const lines = explanationLines(resultOf(DESK), { plan: planned([100, 100]), names })
  expect(lines[2]).toMatch(/^placed anew it would fit nowhere: .*; it would fit with \d+ B more on desk$/)
})

test('where the node gives no reasons that is said, and the times are there all the same', () => {
  expect(explanationLines(resultOf(DESK), undefined)).toEqual([
    expect.stringContaining('predicted: '),
    expect.stringContaining('measured: '),
    'the node said no reasons'
  ])
})

test('ids are as short as tells them apart, and names that several have come with them', () => {
  expect([...shortIds(['aaaa1bbbbbbbb', 'aaaa2bbbbbbbb', 'c']).values()]).toEqual([
    '1bbbbbbbb',
    '2bbbbbbbb',
    'c'
  ])
  const devices = [
    { peerId: '12D3KooW11111111', name: 'pi' },
    { peerId: '12D3KooW22222222', name: 'pi' },
    { peerId: '12D3KooW33333333', name: 'desk' }
  ]
  expect([...shortNames(devices).values()]).toEqual(['pi ...11111111', 'pi ...22222222', 'desk'])
})

test('the node is asked about a request like the one that it answered, and need not know', async () => {
  const asked: unknown[] = []
  const { self } = fakeNode().mesh()
  const node = {
    plan: async (needs: unknown) => {
      asked.push(needs)
      return planned([400, 400])
    },
    mesh: async () => fakeNode().mesh()
  }
  const { signal } = new AbortController()
  const reasons = await reasonsFor(RESULT, { model: 'tiny', privacy: 'sealed' }, { node, signal })
  expect(reasons).toEqual({ plan: planned([400, 400]), names: new Map([[self.peerId, self.name]]) })
  // Its length was not known before.
  expect(asked).toEqual([{ model: 'tiny', privacy: 'sealed', promptTokens: 4 }])
  await reasonsFor(RESULT, { maxTokens: 9 }, { node, signal })
  expect(asked[1]).toEqual({ promptTokens: 4, newTokens: 9 })
  const silent = { ...node, plan: () => Promise.reject(new Error('no')) }
  expect(await reasonsFor(RESULT, {}, { node: silent, signal })).toBeUndefined()
})

test('where a request of the usual length fits nowhere, it is asked about one as long as the answer', async () => {
  const asked: unknown[] = []
  const node = {
    plan: async (needs: { newTokens?: number }) => {
      asked.push(needs)
      return planned(needs.newTokens === undefined ? [100, 100] : [400, 400])
    },
    mesh: async () => fakeNode().mesh()
  }
  const reasons = await reasonsFor(RESULT, {}, { node, signal: new AbortController().signal })
  expect(asked).toEqual([{ promptTokens: 4 }, { promptTokens: 4, newTokens: 3 }])
  expect(reasons!.plan.feasible).toBe(true)
})

test('what a token takes with guesses stands beside what it takes without', () => {
  const { predicted, ...result } = resultOf(DESK)
  const guessed = { ...predicted, tpotMs: 12, speculatedTpotMs: 7 }
  expect(figuresLine({ ...result, predicted: guessed })).toContain('(predicted 12.0 ms, 7.0 ms with guesses)')
  expect(figuresLine({ ...result, predicted: { ...predicted, tpotMs: 12 } })).toContain('(predicted 12.0 ms)')
  const made = planned([400, 400])
  if (!made.feasible) throw new Error('it fits')
  const said = { ...made, predicted: { ...made.predicted, tpotMs: 12, speculatedTpotMs: 7 } }
  expect(explanationLines(resultOf(DESK, LAPTOP), { plan: said, names })[2]).toContain(
    '12.0 ms a token, 7.0 ms with guesses by what is known now'
  )
  expect(timesLines({ ...result, predicted: guessed })[0]).toContain(
    'then 12.0 ms a token, 7.0 ms with guesses'
  )
})

test('what happened on the way is said in the number that it has', () => {
  const moved = [1, 2].map(count =>
    figuresLine({ ...RESULT, recoveries: count, moves: Array(count).fill(MOVE) })
  )
  expect(moved[0]).toContain('1 stage replaced on the way; moved to other devices 1 time without')
  expect(moved[1]).toContain('2 stages replaced on the way; moved to other devices 2 times without')
})

test('two stages of one device are told apart by its processors', () => {
  const [stage] = RESULT.plan.stages
  const stages = ['gpu', 'cpu'].map(processor => ({ ...stage!, name: 'desk', processor }))
  expect(planLine({ stages })).toMatch(/^desk \(gpu\) \[.*\) -> desk \(cpu\) \[/)
})
