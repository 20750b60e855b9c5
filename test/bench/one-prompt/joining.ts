import { join } from 'node:path'
import type { ModelShape } from '../../../models/manifest.ts'
import { answer, Nodes } from '../../fixtures/nodes.ts'
import { storeRandomModel } from '../../fixtures/stored-model.ts'
import { OWN, SHAPE } from '../runtime-models.ts'
import type { How, Row } from './row.ts'
import { median, PROMPT } from './settings.ts'

const MODEL = 'joined'
const ANSWERS = 4
const JOINING_TOKENS = 512
/** Tokens of each running answer without a prompt that joins, before and after. */
const UNDISTURBED_TOKENS = 24
/** What none of the 1.1B shape's layers depends on: it has the bundled model's tokenizer. */
const CONTEXT_TOKENS = 1024

/**
 * A prompt that joins running answers on one device: the longest gap between two of their tokens, over a step without it. The
 * device is a node of its own in this process, with one compute thread and no quota.
 */
export async function joiningRow(
  { decoderLayers }: Pick<ModelShape, 'decoderLayers'>,
  { rounds }: How
): Promise<Row> {
  await using nodes = new Nodes()
  const home = await nodes.home()
  const { hiddenSize, ffnSize, heads, kvHeads, headSize } = SHAPE
  const shape = {
    decoderLayers,
    hiddenSize,
    ffnSize,
    heads,
    kvHeads,
    headSize,
    contextLength: CONTEXT_TOKENS
  }
  await storeRandomModel(join(home, 'store'), MODEL, shape, OWN)
  const node = await nodes.add({ home, bundled: false })
  const ids = Array.from({ length: JOINING_TOKENS }, (_, i) => 20 + ((i * 97) % 200))
  const letter = (await node.tokenize('a', { model: MODEL })).at(-1)!
  // One letter again and again: a token whose text is no whole character would come with the next one.
  const drawn = { temperature: 0, ignoreEos: true, logitBias: { [letter]: 100 } }
  const request = { model: MODEL, objective: 'throughput', ...drawn } as const
  const firstMs = async (seed: number) => {
    const prompt = ids.map((id, i) => (i === 0 ? 20 + seed : id))
    return (await answer(node, { ...request, maxTokens: 1, input: { kind: 'ids', ids: prompt } })).ttftMs
  }
  // The first answer loads the model.
  await firstMs(0)
  const aloneMs = await firstMs(1)
  const played: Played[] = []
  for (let round = 0; round < rounds; round++) {
    const gaps: Gap[] = []
    let tokens = 0
    let joined: Promise<Gap> | undefined
    const join = async () => {
      const fromMs = performance.now()
      return { fromMs, toMs: fromMs + (await firstMs(2 + round)) }
    }
    const draw = async (i: number) => {
      let lastMs: number | undefined
      // Until all of the prompt is in, and some more.
      const maxTokens = JOINING_TOKENS / 2 + 4 * UNDISTURBED_TOKENS
      const input = { kind: 'ids' as const, ids: [...PROMPT.map(id => id % 200), 100 + i] }
      for await (const { type } of node.generate({ ...request, maxTokens, input })) {
        if (type !== 'text') continue
        const atMs = performance.now()
        if (lastMs !== undefined) gaps.push({ fromMs: lastMs, toMs: atMs })
        lastMs = atMs
        if (++tokens === UNDISTURBED_TOKENS * ANSWERS) joined = join()
      }
    }
    await Promise.all(Array.from({ length: ANSWERS }, (_, i) => draw(i)))
    played.push(lookedAt(gaps, (await joined)!))
  }
  const over = (of: (each: Played) => number) => median(played.map(each => of(each) / each.stepMs)).toFixed(2)
  return {
    setting: `a prompt of ${JOINING_TOKENS} joins ${ANSWERS} running answers on one device: their longest gap, over a step`,
    againstMs: median(played.map(({ stepMs }) => stepMs)),
    ms: median(played.map(({ longestMs }) => longestMs)),
    aim: 1.5,
    and: `one node, no quota; median gap ${over(({ medianMs }) => medianMs)}; longest without it ${over(({ undisturbedMs }) => undisturbedMs)}; its first token after ${(median(played.map(({ joinedMs }) => joinedMs)) / aloneMs).toFixed(1)} times the time alone`
  }
}

interface Gap {
  fromMs: number
  toMs: number
}

/** What running answers waited for tokens in one round, without a prompt that joins and with it. */
interface Played {
  stepMs: number
  undisturbedMs: number
  medianMs: number
  longestMs: number
  /** From the prompt to its first token. */
  joinedMs: number
}

function lookedAt(gaps: readonly Gap[], joined: Gap): Played {
  const length = ({ fromMs, toMs }: Gap) => toMs - fromMs
  // The first ones lack answers that join, the last ones those that have ended.
  const inner = gaps.slice(ANSWERS * 4, -ANSWERS * 2)
  const isBeside = ({ fromMs, toMs }: Gap) => toMs >= joined.fromMs && fromMs <= joined.toMs
  const without = inner.filter(gap => !isBeside(gap)).map(length)
  const during = inner.filter(isBeside).map(length)
  return {
    stepMs: median(without),
    undisturbedMs: Math.max(...without),
    medianMs: median(during),
    longestMs: Math.max(...during),
    joinedMs: length(joined)
  }
}
