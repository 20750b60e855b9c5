import type { MeasuredModel } from '../runtime-models.ts'
import { Line, stagesOf } from '../stage-line.ts'
import type { How, Row } from './row.ts'
import { median, PROMPT, TEN_MS } from './settings.ts'

const KNOWN_TOKENS = 500

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
