import type { MeasuredModel } from '../runtime-models.ts'
import { Line, stagesOf } from '../stage-line.ts'
import type { How, Row } from './row.ts'
import { median, PROMPT, TEN_MS } from './settings.ts'

const KNOWN_TOKENS = 500
const ANSWERS = 4
const JOINING_TOKENS = 512
/** Tokens of each running answer without a prompt that joins, before and after. */
const UNDISTURBED_TOKENS = 24

/** Known tokens after a loss, in chunks as exact answers feed them, over one by one as others have to. */
export async function recoveryRow(model: MeasuredModel, how: How): Promise<Row> {
  const rounds = Math.min(how.rounds, 2)
  const { vocabSize } = model.manifest.shape
  const group = await stagesOf(model, 3, { ...how, maxTokens: PROMPT.length + KNOWN_TOKENS + 8 })
  const line = new Line(group, TEN_MS)
  const known = Array.from({ length: KNOWN_TOKENS }, (_, i) => (i * 97) % vocabSize)
  const ms: Record<'chunks' | 'singly', number[]> = { chunks: [], singly: [] }
  for (let round = 0; round < rounds; round++) {
    for (const [way, exact] of [
      ['singly', false],
      ['chunks', true]
    ] as const) {
      const { firstMs } = await line.answer({ prompt: PROMPT, known, exact, newTokens: 1 })
      ms[way].push(firstMs)
    }
  }
  await group.end()
  return {
    setting: `recovery: ${KNOWN_TOKENS} known tokens in chunks (exact), over one by one`,
    againstMs: median(ms.singly),
    ms: median(ms.chunks),
    aim: 0.35,
    and: '3 stages, 10 ms, 50 Mbps',
    held: group.held
  }
}

/** A prompt that joins running answers on one device: the longest gap between two of their tokens, over a step without it. */
export async function joiningRow(model: MeasuredModel, how: How): Promise<Row> {
  const { vocabSize } = model.manifest.shape
  // Pieces have two tokens at least.
  const newTokens = JOINING_TOKENS / 2 + 4 * UNDISTURBED_TOKENS
  const maxTokens = Math.max(newTokens + PROMPT.length, JOINING_TOKENS) + 8
  const group = await stagesOf(model, 1, { ...how, slots: ANSWERS + 1, lanes: 2, maxTokens })
  const line = new Line(group, TEN_MS)
  const prompt = Array.from({ length: JOINING_TOKENS }, (_, i) => (i * 97) % vocabSize)
  const alone = await line.answer({ prompt, newTokens: 1 })
  let joinedMs: [number, number] | undefined
  let joining: Promise<unknown> = Promise.resolve()
  const join = async () => {
    const startMs = performance.now()
    const { firstMs } = await line.answer({ prompt, newTokens: 1 })
    joinedMs = [startMs, startMs + firstMs]
    return firstMs
  }
  const gaps: { fromMs: number; toMs: number }[] = []
  let tokens = 0
  const answers = Array.from({ length: ANSWERS }, (_, i) => {
    let lastMs: number | undefined
    return line.answer({
      prompt: [...PROMPT, 100 + i],
      newTokens,
      onToken: atMs => {
        if (lastMs !== undefined) gaps.push({ fromMs: lastMs, toMs: atMs })
        lastMs = atMs
        if (++tokens === UNDISTURBED_TOKENS * ANSWERS) joining = join()
      }
    })
  })
  await Promise.all(answers)
  await joining
  await group.end()
  const [startMs, endMs] = joinedMs!
  const length = ({ fromMs, toMs }: (typeof gaps)[number]) => toMs - fromMs
  // The first ones lack answers that join, the last ones those that have ended.
  const inner = gaps.slice(ANSWERS * 4, -ANSWERS * 2)
  const without = inner.filter(({ fromMs, toMs }) => toMs < startMs || fromMs > endMs).map(length)
  const during = inner.filter(({ fromMs, toMs }) => toMs >= startMs && fromMs <= endMs).map(length)
  const longest = (all: readonly number[]) => Math.max(...all)
  const ratio = (ms: number) => (ms / median(without)).toFixed(2)
  return {
    setting: `a prompt of ${JOINING_TOKENS} joins ${ANSWERS} running answers on one device: their longest gap, over a step`,
    againstMs: median(without),
    ms: longest(during),
    aim: 1.5,
    and: `median gap ${ratio(median(during))}; longest without it ${ratio(longest(without))}; its first token after ${((endMs - startMs) / alone.firstMs).toFixed(1)} times the time alone`,
    held: group.held
  }
}
