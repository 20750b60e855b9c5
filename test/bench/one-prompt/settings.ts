import { speculatedMs } from '../../../node/plan/speculation.ts'
import { OracleDraft } from '../../node/source/oracle-draft.ts'
import type { MeasuredModel } from '../runtime-models.ts'
import { Line, type Measured, stagesOf, type Wire } from '../stage-line.ts'
import { quantile } from '../statistics.ts'
import type { How, Row } from './row.ts'

const LAN: Wire = { latencyMs: 0.25, mbps: 1000 }
export const TEN_MS: Wire = { latencyMs: 10, mbps: 50 }
const SETTINGS = [
  { name: '3 stages, 10 ms, 50 Mbps', stages: 3, wire: TEN_MS, aim: 0.45 },
  { name: '3 stages, 5 ms, 50 Mbps', stages: 3, wire: { latencyMs: 5, mbps: 50 }, aim: 0.5 },
  { name: '3 stages, LAN', stages: 3, wire: LAN, aim: 0.6 },
  { name: '2 stages, LAN', stages: 2, wire: LAN, aim: 0.75 }
]
const RIGHT = 0.7
/** What guesses may cost where all are wrong: 0.98 of the speed without. */
const WRONG_AIM = 1 / 0.98
const BATCH = 8
export const PROMPT = [1, 450, 300, 12, 77, 1500, 9, 31]

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export const tokenMs = (all: readonly Measured[]) => median(all.map(each => each.tokenMs))

const stageMs = (all: readonly Measured[]) => median(all.map(each => each.stageMs ?? Number.NaN))

/**
 * What a plan says of a token with guesses, in ms, where each of `count` stages takes `busyMs` for a step: this is what stages
 * that do not slow each other down would make of the window, and cores that do are seen beside it.
 */
function guessedMs({ latencyMs }: Wire, count: number, busyMs: number): number {
  const visits = Array.from({ length: count }, () => ({ occupiedMs: busyMs, delayMs: latencyMs }))
  return speculatedMs({ visits, busiestMs: busyMs }, { acceptance: RIGHT, window: undefined })
}

/** Guesses of which 70 %, and of which none, are right, over none; beside it what one device takes for a token. */
export async function* settingRows(model: MeasuredModel, how: How): AsyncGenerator<Row> {
  const { newTokens, rounds } = how
  const { vocabSize } = model.manifest.shape
  const init = { ...how, maxTokens: PROMPT.length + newTokens + 1 }
  const alone = await stagesOf(model, 1, init)
  const one = new Line(alone, LAN)
  for (const count of [3, 2]) {
    const group = await stagesOf(model, count, init)
    const held = alone.held && group.held
    for (const { name, wire, aim } of SETTINGS.filter(({ stages }) => stages === count)) {
      const line = new Line(group, wire)
      const asked = { prompt: PROMPT, newTokens }
      const truth = (await line.answer(asked)).ids
      const oracle = (right: number, seed: number) =>
        new OracleDraft({ promptTokens: PROMPT.length, answer: truth, right, vocabSize, seed })
      const all: Record<'plain' | 'right' | 'wrong' | 'one', Measured[]> = {
        plain: [],
        right: [],
        wrong: [],
        one: []
      }
      for (let round = 1; round <= rounds; round++) {
        all.plain.push(await line.answer(asked))
        all.right.push(await line.answer({ ...asked, draft: oracle(RIGHT, round) }))
        all.wrong.push(await line.answer({ ...asked, draft: oracle(0, round) }))
        all.one.push(await one.answer(asked))
      }
      const [plainMs, busyMs] = [stageMs(all.plain), stageMs(all.right)]
      const limitMs = guessedMs(wire, count, busyMs)
      const againstMs = tokenMs(all.plain)
      const stages = `a stage's step ${plainMs.toFixed(1)} ms, ${busyMs.toFixed(1)} beside others' at once: with these a plan counts on ${(limitMs / againstMs).toFixed(2)}`
      const same = [...all.plain, ...all.right, ...all.wrong].every(({ ids }) => `${ids}` === `${truth}`)
      const tokens = same ? 'the same tokens' : 'OTHER TOKENS'
      const { sent, held: right, dropped } = all.right.at(-1)!.guesses!
      yield {
        setting: `${name}, 70 % right`,
        againstMs,
        ms: tokenMs(all.right),
        aim,
        and: `one device ${tokenMs(all.one).toFixed(1)} ms; ${stages}; guesses sent ${sent}, held ${right}, dropped ${dropped}; ${tokens}`,
        held
      }
      yield {
        setting: `${name}, 0 % right`,
        againstMs,
        ms: tokenMs(all.wrong),
        aim: WRONG_AIM,
        and: tokens,
        held
      }
    }
    await group.end()
  }
  await alone.end()
}

/** Eight answers at once, each with a draft, over none with one: time for all of their tokens. */
export async function batchRow(model: MeasuredModel, how: How): Promise<Row> {
  const { newTokens, rounds } = how
  const { vocabSize } = model.manifest.shape
  const group = await stagesOf(model, 3, { ...how, slots: BATCH, lanes: 2, maxTokens: 2 * newTokens + 16 })
  const line = new Line(group, TEN_MS)
  const asked = (i: number) => ({ prompt: [...PROMPT, 100 + i], newTokens })
  const truths = await Promise.all(Array.from({ length: BATCH }, (_, i) => line.answer(asked(i))))
  const draw = async (right: number | undefined) => {
    const startMs = performance.now()
    await Promise.all(
      truths.map(({ ids }, i) => {
        const { prompt } = asked(i)
        const oracle = { promptTokens: prompt.length, answer: ids, vocabSize, seed: i + 1 }
        const draft = right === undefined ? undefined : new OracleDraft({ ...oracle, right })
        return line.answer({ ...asked(i), draft })
      })
    )
    return (performance.now() - startMs) / newTokens
  }
  const [without, guessed]: [number[], number[]] = [[], []]
  for (let round = 0; round < rounds; round++) {
    without.push(await draw(undefined))
    guessed.push(await draw(RIGHT))
  }
  await group.end()
  const setting = `${BATCH} sequences at once, 3 stages, 10 ms, 50 Mbps, 70 % right`
  return {
    setting,
    againstMs: median(without),
    ms: median(guessed),
    aim: 1,
    and: `${rounds} rounds`,
    held: group.held
  }
}
