import { startRuntime } from '../../models/runtime/client.ts'
import type { ShardBatch, ShardSession, StepPart } from '../../models/runtime/runtime.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { GREEDY } from '../fixtures/shards.ts'
import { OWN, randomModel, SHAPE } from './runtime-models.ts'
import { quantile } from './statistics.ts'

/**
 * What exact sequences cost: steps of the 1.1B shape with few layers (random weights, one thread) as ratios to those of
 * sequences that are not, taken in turn in one run. `npm run bench:exact`
 */
const LAYERS = 6
const CONTEXT_TOKENS = 128
const { positionals } = commandOptions(import.meta.url, { allowPositionals: true })
const ROUNDS = Number(positionals[0] ?? 60)

/** A kind of step, timed again and again at the same place. */
interface Timed {
  name: string
  /** What it is compared with; absent: nothing. */
  against?: string
  /** Tokens that the other's step moves on for one of this. */
  times: number
  step(): Promise<unknown>
}

await using model = await randomModel('1.1B shape', OWN, { decoderLayers: LAYERS })
const { manifest, blobsDir } = model
const runtime = await startRuntime({ threads: 1 })
try {
  const timed: Timed[] = []
  const open = async (
    lanes: number,
    slots: number,
    exact: boolean
  ): Promise<[ShardBatch, ShardSession[]]> => {
    const shard = await runtime.load({ manifest, range: [0, LAYERS + 2], blobsDir, lanes })
    const batch = await shard.openBatch({ slots, maxTokens: CONTEXT_TOKENS + 64 })
    const sessions: ShardSession[] = []
    for (let i = 0; i < slots; i++) sessions.push(await batch.open({ sampling: GREEDY, exact }))
    for (const session of sessions) {
      const input = Int32Array.from({ length: CONTEXT_TOKENS }, (_, i) => (i * 97) % SHAPE.vocabSize)
      await session.forward({ position: 0, input, sample: false })
    }
    return [batch, sessions]
  }
  const stepOf = (batch: ShardBatch, sessions: ShardSession[], tokens: number[]) => {
    const parts = tokens.map((count): StepPart => ({ position: CONTEXT_TOKENS, tokens: count, draws: 1 }))
    const rows = tokens.reduce((sum, count) => sum + count, 0)
    const input = Int32Array.from({ length: rows }, (_, i) => 5 + i)
    return () => batch.step(sessions.slice(0, tokens.length), { parts, input })
  }
  const ones = (count: number): number[] => new Array(count).fill(1)
  const [plain, plainSessions] = await open(1, 8, false)
  const [exact, exactSessions] = await open(1, 1, true)
  const [laned, lanedSessions] = await open(8, 8, true)
  const alone = 'one token of one sequence'
  timed.push({ name: alone, times: 1, step: stepOf(plain, plainSessions, [1]) })
  timed.push({ name: 'the same, exact', against: alone, times: 1, step: stepOf(exact, exactSessions, [1]) })
  timed.push({
    name: 'the same, exact, 8 lanes',
    against: alone,
    times: 1,
    step: stepOf(laned, lanedSessions, [1])
  })
  for (const slots of [2, 4, 8]) {
    const name = `one token of each of ${slots} sequences`
    timed.push({ name, times: 1, step: stepOf(plain, plainSessions, ones(slots)) })
    timed.push({
      name: 'the same, exact, 8 lanes',
      against: name,
      times: 1,
      step: stepOf(laned, lanedSessions, ones(slots))
    })
  }
  const recovery = '32 known tokens, in a chunk (exact) against one by one'
  timed.push({ name: recovery, against: alone, times: 32, step: stepOf(exact, exactSessions, [32]) })
  const joining = 'a step of 4 sequences with 4 tokens of a prompt that joins, exact'
  const four = 'one token of each of 4 sequences'
  timed.push({ name: joining, against: four, times: 1, step: stepOf(laned, lanedSessions, [1, 1, 1, 1, 4]) })

  const ms = new Map<Timed, number[]>(timed.map(one => [one, []]))
  for (const { step } of timed) await step()
  for (let round = 0; round < ROUNDS; round++) {
    for (const one of timed) {
      const start = performance.now()
      await one.step()
      ms.get(one)!.push(performance.now() - start)
    }
  }
  console.log(
    `${LAYERS} layers, 4 bits in blocks of 128, 1 thread, ${CONTEXT_TOKENS} tokens before, ${ROUNDS} rounds`
  )
  console.log('| step | median ms | least ms | ratio of medians | of the least |\n|---|---|---|---|---|')
  for (const [one, times] of ms) {
    const base = ms.get(timed.find(({ name }) => name === one.against)!)
    const ratio = (q: number) =>
      base === undefined ? '' : (quantile(times, q) / (one.times * quantile(base, q))).toFixed(2)
    const [median, least] = [0.5, 0].map(q => quantile(times, q).toFixed(1))
    console.log(`| ${one.name} | ${median} | ${least} | ${ratio(0.5)} | ${ratio(0)} |`)
  }
} finally {
  await runtime.stop()
}
