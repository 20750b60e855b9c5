import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LayerRange } from '../../models/layers.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type {
  HiddenStates,
  Runtime,
  SampledToken,
  ShardBatch,
  ShardSession
} from '../../models/runtime/runtime.ts'
import { againstReference, type Drawn } from '../fixtures/against-reference.ts'
import { prng } from '../fixtures/prng.ts'
import {
  LATENT,
  LAYERED,
  MIXED,
  PARTED,
  type RandomModel,
  type RandomModelOptions,
  randomModel,
  STATEFUL
} from '../fixtures/random-model.ts'
import { GREEDY } from '../fixtures/shards.ts'

const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'float32, layers of several kinds': { shape: LAYERED },
  'q4, experts': { shape: MIXED, quantization: { bits: 4, blockSize: 32 } },
  'float32, states': { shape: STATEFUL },
  'float32, layers of one part': { shape: PARTED },
  'float32, heads of 8, norms': { shape: { headSize: 8 }, optional: ['q_norm', 'k_norm'] },
  'q4, latent vectors': { shape: LATENT, quantization: { bits: 4, blockSize: 32 } },
  q8: { quantization: { bits: 8, blockSize: 32 } },
  q4: { quantization: { bits: 4, blockSize: 32 } },
  'q4, shifted': { quantization: { bits: 4, blockSize: 32, shifted: true } }
}
const PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [44], [100, 101, 102, 103], [9, 9, 9, 9, 9, 9]]
/** Tokens behind each prompt: fixed, so that no near tie decides what is fed next. */
const COUNT = 12
let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 2 })
})
afterAll(() => runtime.stop())

/** One stage's batch and the sessions in it, by request. */
interface Stage {
  batch: ShardBatch
  sessions: ShardSession[]
}

async function openStages(model: RandomModel, edges: number[], slots: number): Promise<Stage[]> {
  const { manifest, blobsDir } = model
  const stages: Stage[] = []
  for (let i = 0; i + 1 < edges.length; i++) {
    const range: LayerRange = [edges[i]!, edges[i + 1]!]
    const shard = await runtime.load({ manifest, range, blobsDir })
    stages.push({ batch: await shard.openBatch({ slots, maxTokens: 64 }), sessions: [] })
  }
  return stages
}

async function prefill(stages: Stage[], request: number, prompt: number[]): Promise<SampledToken> {
  let input: Int32Array | HiddenStates = Int32Array.from(prompt)
  for (const { batch, sessions } of stages) {
    const session = (sessions[request] ??= await batch.open({ sampling: GREEDY }))
    const output = await session.forward({ position: 0, input, sample: true })
    if (output.kind === 'token') return output.token
    if (output.kind === 'hidden') input = output.hidden
  }
  throw new Error('no stage sampled')
}

async function decode(stages: Stage[], requests: number[], positions: number[], ids: number[]) {
  let input: Int32Array | HiddenStates = Int32Array.from(ids)
  for (const { batch, sessions } of stages) {
    const output = await batch.decode(
      requests.map(request => sessions[request]!),
      { positions, input }
    )
    if (output.kind === 'tokens') return output.tokens
    input = output.hidden
  }
  throw new Error('no stage sampled')
}

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('decodes ragged sequences together, each as if it were alone, wherever the model is cut', async () => {
    await using model = await randomModel(options)
    const random = prng(3)
    const texts = PROMPTS.map(prompt => [
      ...prompt,
      ...Array.from({ length: COUNT }, () => Math.floor(random() * model.manifest.shape.vocabSize))
    ])
    const drawn: Drawn[] = []
    for (const edges of [
      [0, 5],
      [0, 2, 5],
      [0, 1, 4, 5]
    ]) {
      const stages = await openStages(model, edges, PROMPTS.length)
      const lengths = PROMPTS.map(prompt => prompt.length)
      for (const [i, prompt] of PROMPTS.entries()) {
        drawn.push({ tokens: texts[i]!, position: prompt.length, token: await prefill(stages, i, prompt) })
      }
      // Others take part in every step, also with gaps between their slots and in any order.
      const rounds = [[0, 1, 2, 3], [3, 0], [2], [1, 3]]
      for (let round = 0; lengths.some((length, i) => length < texts[i]!.length); round++) {
        const requests = rounds[round % rounds.length]!.filter(i => lengths[i]! < texts[i]!.length)
        if (requests.length === 0) continue
        const positions = requests.map(i => lengths[i]!)
        const tokens = await decode(
          stages,
          requests,
          positions,
          requests.map(i => texts[i]![lengths[i]!]!)
        )
        requests.forEach((i, row) => {
          drawn.push({ tokens: texts[i]!, position: ++lengths[i]!, token: tokens[row]! })
        })
      }
      await Promise.all(stages.map(stage => stage.batch.close()))
    }
    const { clear, nearTie, tolerance, formatError } = await againstReference(model, options, drawn)
    expect(clear.count + nearTie.count).toBe(3 * PROMPTS.length * (COUNT + 1))
    expect(clear.error).toBeLessThan(tolerance)
    expect(nearTie.error).toBeLessThan(formatError)
  })
})

describe('slots', () => {
  it('are given out once, and again when their session closes, without its tokens', async () => {
    await using model = await randomModel()
    const [stage] = await openStages(model, [0, 5], 2)
    const { batch } = stage!
    const sessions = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
    const refused = batch.open({ sampling: GREEDY })
    await expect(refused).rejects.toMatchObject({ name: 'NoFreeSlotError', message: 'all 2 slots are taken' })
    const fresh = await sessions[0]!.forward({ position: 0, input: Int32Array.of(1, 2), sample: true })
    await sessions[0]!.forward({ position: 2, input: Int32Array.of(3, 4), sample: true })
    await sessions[0]!.close()
    const next = await batch.open({ sampling: GREEDY })
    const again = await next.forward({ position: 0, input: Int32Array.of(1, 2), sample: true })
    if (again.kind !== 'token' || fresh.kind !== 'token') throw new Error('no token')
    expect(again.token).toEqual(fresh.token)
    await batch.close()
    await expect(batch.open({ sampling: GREEDY })).rejects.toThrow('the batch is closed')
  })

  it('a full sequence does not suffer from runs that only pass over its slot', async () => {
    await using model = await randomModel()
    const { manifest, blobsDir } = model
    const shard = await runtime.load({ manifest, range: [0, 5], blobsDir })
    const batch = await shard.openBatch({ slots: 3, maxTokens: 4 })
    const sessions: ShardSession[] = []
    for (let i = 0; i < 3; i++) sessions.push(await batch.open({ sampling: GREEDY }))
    const full = await sessions[1]!.forward({ position: 0, input: Int32Array.of(5, 6, 7, 8), sample: true })
    await batch.decode([sessions[0]!, sessions[2]!], { positions: [0, 0], input: Int32Array.of(1, 2) })
    await sessions[1]!.trim(3)
    const again = await batch.decode([sessions[1]!], { positions: [3], input: Int32Array.of(8) })
    if (full.kind !== 'token' || again.kind !== 'tokens') throw new Error('no token')
    expect(again.tokens[0]!.id).toBe(full.token.id)
    await expect(
      batch.decode([sessions[1]!], { positions: [4], input: Int32Array.of(8) })
    ).rejects.toMatchObject({ name: 'ContextOverflowError' })
    await shard.release()
  })

  it('one whose logits are not finite draws no token and stays as it was, the others draw theirs', async () => {
    await using model = await randomModel()
    const { manifest, blobsDir } = model
    const shard = await runtime.load({ manifest, range: [4, 5], blobsDir })
    const batch = await shard.openBatch({ slots: 3, maxTokens: 4 })
    const sessions: ShardSession[] = []
    for (let i = 0; i < 3; i++) sessions.push(await batch.open({ sampling: GREEDY }))
    const input = allocateHidden(3, 64)
    input.data.fill(0.3)
    const sound = await batch.decode(sessions, { positions: [0, 0, 0], input })
    input.data[64] = Number.NaN
    const damaged = await batch.decode(sessions, { positions: [1, 1, 1], input })
    if (sound.kind !== 'tokens' || damaged.kind !== 'tokens') throw new Error('no tokens')
    expect(damaged.tokens).toEqual([sound.tokens[0], undefined, sound.tokens[2]])
    input.data.fill(0.3)
    const again = await batch.decode(sessions, { positions: [2, 1, 2], input })
    expect(again).toMatchObject({ tokens: sound.tokens })
    await shard.release()
  })

  it('refuses steps that name sessions twice, of another batch, or with other counts', async () => {
    await using model = await randomModel()
    const [one, other] = [...(await openStages(model, [0, 5], 2)), ...(await openStages(model, [0, 5], 2))]
    const session = await one!.batch.open({ sampling: GREEDY })
    const foreign = await other!.batch.open({ sampling: GREEDY })
    const input = Int32Array.of(1, 2)
    await expect(one!.batch.decode([session, session], { positions: [0, 0], input })).rejects.toThrow('twice')
    await expect(one!.batch.decode([session, foreign], { positions: [0, 0], input })).rejects.toThrow(
      'another batch'
    )
    await expect(one!.batch.decode([session], { positions: [0], input })).rejects.toThrow('differ')
    await expect(
      one!.batch.decode([session], { positions: [1], input: Int32Array.of(1) })
    ).rejects.toMatchObject({
      name: 'PositionError'
    })
    await session.close()
    await expect(
      one!.batch.decode([session], { positions: [0], input: Int32Array.of(1) })
    ).rejects.toMatchObject({
      name: 'SessionClosedError'
    })
    await Promise.all([one!.batch.close(), other!.batch.close()])
  })
})
