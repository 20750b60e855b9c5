import { expect, test } from 'vitest'
import { PREFILL_CHUNK_TOKENS } from '../../../../models/runtime/hidden.ts'
import { prefillSteps } from '../../../../node/source/pipeline/prefill-steps.ts'

const tokens = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i)
const PROMPT = tokens(40)
const KNOWN = tokens(70, 40)

/** Positions and sizes, where the tokens are those of prompt and answer in their order. */
function stepsOf(exact: boolean, from: { fromToken: number; keepTokens: number }): [number, number][] {
  const steps = prefillSteps({ prompt: PROMPT, known: KNOWN, exact }, from)
  expect(steps.flatMap(step => step.tokens)).toEqual([...PROMPT, ...KNOWN].slice(from.fromToken))
  return steps.map(({ position, tokens }) => [position, tokens.length])
}

test('what is known of an answer goes in as it was computed: token by token, or in chunks where bits do not depend on it', () => {
  const begin = { fromToken: 0, keepTokens: 0 }
  expect(stepsOf(false, begin)).toEqual([
    [0, PREFILL_CHUNK_TOKENS],
    [32, 8],
    ...tokens(70, 40).map((at): [number, number] => [at, 1])
  ])
  expect(stepsOf(true, begin)).toEqual([
    [0, 32],
    [32, 32],
    [64, 32],
    [96, 14]
  ])
})

test('no chunk reaches across what some stages have kept', () => {
  expect(stepsOf(true, { fromToken: 0, keepTokens: 50 })).toEqual([
    [0, 32],
    [32, 18],
    [50, 32],
    [82, 28]
  ])
  expect(stepsOf(true, { fromToken: 100, keepTokens: 100 })).toEqual([[100, 10]])
})

test('where layers have states the last chunk is no short one, so that one is kept before what templates change', () => {
  const sizes = (count: number) =>
    prefillSteps({ prompt: tokens(count), known: [], hasState: true }, { fromToken: 0, keepTokens: 0 }).map(
      step => step.tokens.length
    )
  expect(sizes(66)).toEqual([32, 18, 16])
  expect(sizes(33)).toEqual([17, 16])
  expect(sizes(80)).toEqual([32, 32, 16])
  expect(sizes(9)).toEqual([9])
})
