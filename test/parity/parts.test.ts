import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import { MAX_PARTS } from '../../models/runtime/memory.ts'
import type { DecodeOutput, Runtime, Shard, ShardSession } from '../../models/runtime/runtime.ts'
import { type RandomModel, type RandomModelOptions, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { GREEDY, LocalStages } from '../fixtures/shards.ts'

const PROMPT = Array.from({ length: 11 }, (_, i) => (i * 37 + 5) % 160)
const COUNT = 12
const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'float32, states': { shape: STATEFUL },
  q4: { quantization: { bits: 4, blockSize: 32 } }
}

let whole: Runtime
let parted: Runtime
beforeAll(async () => {
  // Two threads both: how many there are may change in which order a product adds.
  whole = await startRuntime({ threads: 2 })
  parted = await startRuntime({ threads: 2, partBytes: 1 })
})
afterAll(() => Promise.all([whole.stop(), parted.stop()]))

async function load(runtime: Runtime, { manifest, blobsDir }: RandomModel, end = manifest.layers.length) {
  const fractions: number[] = []
  const onProgress = (fraction: number) => void fractions.push(fraction)
  const shard = await runtime.load({ manifest, range: [0, end], blobsDir }, { onProgress })
  return { shard, fractions }
}

describe.each(Object.entries(CASES))('loaded in parts: %s', (_, options) => {
  it('draws the same tokens with the same log-probabilities, to the bit', async () => {
    await using model = await randomModel(options)
    await using one = await LocalStages.open(whole, model)
    await using two = await LocalStages.open(parted, model)
    expect(await two.generate(PROMPT, COUNT)).toEqual(await one.generate(PROMPT, COUNT))
    await one.restart()
    await two.restart()
    expect(await two.generate(PROMPT, COUNT, 3)).toEqual(await one.generate(PROMPT, COUNT, 3))
  })

  it('decodes several sequences at once with the same bits', async () => {
    await using model = await randomModel(options)
    const steps = async (runtime: Runtime) => {
      const { shard } = await load(runtime, model)
      const { batch, sessions } = await threeOf(shard)
      const outputs: DecodeOutput[] = []
      for (let step = 0; step < 4; step++) {
        const positions = sessions.map((_, i) => i + 1 + step)
        outputs.push(await batch.decode(sessions, { positions, input: Int32Array.of(7, 8, 9 + step) }))
      }
      await shard.release()
      return outputs.map(output => output.kind === 'tokens' && output.tokens)
    }
    expect(await steps(parted)).toEqual(await steps(whole))
  })
})

/** A batch with three sequences of 1, 2 and 3 tokens. */
async function threeOf(shard: Shard) {
  const batch = await shard.openBatch({ slots: 3, maxTokens: 32 })
  const sessions: ShardSession[] = []
  for (const tokens of [1, 2, 3]) {
    const session = await batch.open({ sampling: GREEDY })
    await session.forward({ position: 0, input: Int32Array.from(PROMPT.slice(0, tokens)), sample: true })
    sessions.push(session)
  }
  return { batch, sessions }
}

const token = (output: DecodeOutput) => (output.kind === 'tokens' ? output.tokens : [])

describe('a shard in parts', () => {
  it('has no more of them than are counted as memory, on however many threads', async () => {
    await using model = await randomModel()
    expect(model.manifest.layers.length).toBeGreaterThan(MAX_PARTS)
    const runtime = await startRuntime({ threads: 8, partBytes: 1 })
    try {
      const { shard, fractions } = await load(runtime, model)
      expect(fractions).toHaveLength(MAX_PARTS)
      await shard.release()
    } finally {
      await runtime.stop()
    }
  })

  it('is loaded as several, says how far it is, and ends in hidden states where it has no head', async () => {
    await using model = await randomModel()
    const { shard, fractions } = await load(parted, model, 3)
    expect(fractions).toEqual([0.5, 1])
    expect(shard.range).toEqual([0, 3])
    const { shard: other } = await load(whole, model, 3)
    const step = { position: 0, input: Int32Array.from(PROMPT), sample: false }
    const outputs = await Promise.all(
      [shard, other].map(async shard => (await shard.open({ maxTokens: 32 })).forward(step))
    )
    const [mine, theirs] = outputs.map(output => output.kind === 'hidden' && [...output.hidden.data])
    expect(mine).toEqual(theirs)
    await Promise.all([shard.release(), other.release()])
  })

  it('leaves a session as it was where a later part fails the step', async () => {
    await using model = await randomModel()
    const { shard } = await load(parted, model)
    const session = await shard.open({ maxTokens: 32, sampling: { ...GREEDY } })
    const { manifest, blobsDir } = model
    const second = await parted.load({ manifest, range: [1, 3], blobsDir })
    const first = { position: 0, input: Int32Array.from(PROMPT), sample: true }
    const drawn = await session.forward(first)
    // Not the position at which it stands: no part takes that, so nothing has changed.
    await expect(session.forward({ ...first, position: 3 })).rejects.toThrow('was sent to a session of 11')
    await session.trim(0)
    expect(await session.forward(first)).toMatchObject({ ...drawn, computeMs: expect.any(Number) })
    // Numbers that are none come in: every part computes with them, and the last says so.
    const poisoned = allocateHidden(1, model.manifest.shape.hiddenSize)
    poisoned.data.fill(Number.NaN)
    await second.release()
    await shard.release()
    const tail = await parted.load({ manifest, range: [1, manifest.layers.length], blobsDir })
    const held = await tail.open({ maxTokens: 32, sampling: GREEDY })
    const bad = { position: 0, input: poisoned, sample: true }
    await expect(held.forward(bad)).rejects.toMatchObject({ name: 'NotFiniteError' })
    const good = { ...bad, input: allocateHidden(1, model.manifest.shape.hiddenSize) }
    good.input.data.fill(0.5)
    expect(await held.forward(good)).toMatchObject({ kind: 'token' })
    // The same in a batch, where the other sequences go on.
    const batch = await tail.openBatch({ slots: 2, maxTokens: 32 })
    const sessions = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
    const rows = allocateHidden(2, model.manifest.shape.hiddenSize)
    rows.data.fill(0.5)
    rows.data[0] = Number.NaN
    const [none, some] = token(await batch.decode(sessions, { positions: [0, 0], input: rows }))
    expect([none, some?.id]).toEqual([undefined, expect.any(Number)])
    rows.data[0] = 0.5
    const both = token(await batch.decode(sessions, { positions: [0, 1], input: rows }))
    expect(both.map(drawn => typeof drawn?.id)).toEqual(['number', 'number'])
    await tail.release()
  })

  it('goes on with the others when a session is closed during a step', async () => {
    await using model = await randomModel()
    const { shard } = await load(parted, model)
    const { batch, sessions } = await threeOf(shard)
    const step = { positions: [1, 2, 3], input: Int32Array.of(7, 8, 9) }
    const decoding = batch.decode(sessions, step)
    await sessions[1]!.close()
    const drawn = token(await decoding)
    expect([typeof drawn[0]?.id, typeof drawn[2]?.id]).toEqual(['number', 'number'])
    await expect(batch.decode(sessions, step)).rejects.toThrow('the session is over')
    // Its slot is free in every part, and the others stand where they should.
    const next = await batch.open({ sampling: GREEDY })
    await next.forward({ position: 0, input: Int32Array.of(5), sample: true })
    const all = [sessions[0]!, next, sessions[2]!]
    const after = token(await batch.decode(all, { positions: [2, 1, 4], input: Int32Array.of(1, 2, 3) }))
    expect(after.every(one => one !== undefined)).toBe(true)
    await shard.release()
  })

  it('is refused as a whole where a part cannot be loaded, or nobody wants it any more', async () => {
    await using model = await randomModel()
    const { manifest, blobsDir } = model
    const layers = manifest.layers.map((layer, i) => (i === 4 ? { ...layer, sha256: 'missing' } : layer))
    const broken = { ...manifest, layers }
    await expect(parted.load({ manifest: broken, range: [0, 5], blobsDir })).rejects.toMatchObject({
      name: 'BlobError'
    })
    const gone = new AbortController()
    const loading = parted.load({ manifest, range: [0, 5], blobsDir }, { signal: gone.signal })
    gone.abort(new Error('left'))
    await expect(loading).rejects.toThrow('left')
    await expect(parted.load({ manifest, range: [0, 9], blobsDir })).rejects.toThrow('are not a range')
  })
})
