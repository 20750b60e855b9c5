import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Quantization } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { GpuRuntime } from '../../models/runtime/gpu-runtime.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { HiddenStates, Runtime, SampledToken } from '../../models/runtime/runtime.ts'
import { StageRuntime } from '../../node/processor/stage-runtime.ts'
import { MOST_DIFFERENCE } from '../../node/processor/verdict.ts'
import { answer, ask, Nodes, nextOf, until } from '../fixtures/nodes.ts'
import { BESIDE, CONVOLVED, LATENT, LAYERED, MIXED, randomModel, STATEFUL } from '../fixtures/random-model.ts'
import { GREEDY, LocalStages } from '../fixtures/shards.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'
import { adapterMissing } from './adapter.ts'

/** `npm run test:gpu` sets it: minutes on a software adapter, which compiles shaders anew in each process. */
const asked = process.env.EDGESHARD_GPU_TESTS === 'long'
const missing = asked ? await adapterMissing() : 'the long tests run by npm run test:gpu'
if (asked && missing !== undefined) process.stdout.write(`the GPU is not tried: ${missing}\n`)

const SILENCE_MS = 600_000
const PROMPT = [5, 102, 39, 17, 88, 61, 140, 3, 77]
/** A model whose products both kinds of kernels round alike: 4 bits in blocks of 128. */
const SHAPE = { hiddenSize: 256, ffnSize: 512, heads: 4, kvHeads: 2, headSize: 64 }
const QUANTIZED: (Quantization | undefined)[] = [
  undefined,
  { bits: 4, blockSize: 128 },
  { bits: 4, blockSize: 32 },
  { bits: 8, blockSize: 32 }
]

describe.skipIf(missing !== undefined)('the GPU', { timeout: 4 * SILENCE_MS }, () => {
  let gpu: GpuRuntime
  let cpu: Runtime

  beforeAll(async () => {
    gpu = new GpuRuntime({ silenceMs: SILENCE_MS })
    cpu = await startRuntime({ threads: 1 })
  })
  afterAll(async () => void (await Promise.all([gpu.stop(), cpu.stop()])))

  test.each(QUANTIZED)('computes layers of %o as the CPU does', async quantization => {
    await using model = await randomModel({
      shape: { ...SHAPE, decoderLayers: 2 },
      ...(quantization && { quantization })
    })
    const { manifest, blobsDir } = model
    // What products are rounded to differs between kernels, but for what needs no rounding and for blocks of 128.
    const most = quantization === undefined || quantization.blockSize === 128 ? 1e-4 : MOST_DIFFERENCE
    const outputs = await Promise.all(
      [cpu, gpu].map(async runtime => {
        const shard = await runtime.load({ manifest, range: [1, 3], blobsDir })
        const session = await shard.open({ maxTokens: 32 })
        const rows: number[] = []
        let position = 0
        for (const tokens of [9, 3, 1, 1, 1]) {
          const output = await session.forward({ position, input: hiddenOf(tokens), sample: true })
          if (output.kind === 'hidden') rows.push(...output.hidden.data)
          position += tokens
        }
        await shard.release()
        return rows
      })
    )
    const [one, other] = outputs as [number[], number[]]
    const largest = Math.max(...one.map(Math.abs))
    expect(one).toHaveLength(15 * SHAPE.hiddenSize)
    expect(Math.max(...one.map((x, i) => Math.abs(x - other[i]!)))).toBeLessThan(most * largest)
  })

  test.each([
    ['states of two kinds', STATEFUL],
    ['convolutions', CONVOLVED],
    ['latent vectors', LATENT],
    ['experts', MIXED],
    ['experts beside a dense unit, a window', BESIDE]
  ])('computes %s as the CPU does, also where a cache drops tokens and goes back', async (_, shape) => {
    await using model = await randomModel({ shape: { ...shape, contextLength: 512 } })
    const { manifest, blobsDir } = model
    const { hiddenSize } = manifest.shape
    const outputs = await Promise.all(
      [cpu, gpu].map(async runtime => {
        const shard = await runtime.load({ manifest, range: [1, 4], blobsDir })
        const batch = await shard.openBatch({ slots: 1, maxTokens: 400, frameTokens: 16 })
        const rows: number[] = []
        const feed = async (keepTokens: number, steps: readonly number[]) => {
          const session = await batch.open({ keepTokens })
          let position = keepTokens
          for (const tokens of steps) {
            const output = await session.forward({
              position,
              input: hiddenOf(tokens, hiddenSize),
              sample: false
            })
            if (output.kind === 'hidden') rows.push(...output.hidden.data)
            position += tokens
          }
          await session.close()
        }
        await feed(0, [9, 1, 1, ...new Array<number>(10).fill(16), 7])
        // The state before the last step is kept.
        await feed(171, [3, 1])
        await feed(0, [5])
        await shard.release()
        return rows
      })
    )
    const [one, other] = outputs as [number[], number[]]
    const largest = Math.max(...one.map(Math.abs))
    expect(one).toHaveLength((178 + 4 + 5) * hiddenSize)
    expect(Math.max(...one.map((x, i) => Math.abs(x - other[i]!)))).toBeLessThan(1e-4 * largest)
  })

  test.each([undefined, { bits: 4, blockSize: 128 } as const])(
    'computes a prompt of 70 tokens as the CPU does, layers of %o',
    async quantization => {
      await using model = await randomModel({
        shape: { ...SHAPE, decoderLayers: 2 },
        ...(quantization && { quantization })
      })
      const { manifest, blobsDir } = model
      const prompt = Array.from({ length: 70 }, (_, i) => (i * 37 + 5) % manifest.shape.vocabSize)
      const hidden = await Promise.all(
        [cpu, gpu].map(async runtime => {
          const shard = await runtime.load({ manifest, range: [1, 3], blobsDir, lanes: 2 })
          const session = await shard.open({ maxTokens: 128 })
          const input = hiddenOf(prompt.length)
          const alone = await session.forward({ position: 0, input, sample: false })
          // Beside another sequence, as steps of several are.
          const batch = await shard.openBatch({ slots: 2, maxTokens: 128 })
          const both = await batch.step([await batch.open(), await batch.open()], {
            parts: [1, prompt.length - 1].map(tokens => ({ position: 0, tokens, draws: 0 })),
            input
          })
          await shard.release()
          if (alone.kind !== 'hidden' || both.kind !== 'hidden') throw new Error('no hidden states')
          return [...alone.hidden.data, ...both.hidden.data]
        })
      )
      const [one, other] = hidden as [number[], number[]]
      const largest = Math.max(...one.map(Math.abs))
      expect(one).toHaveLength(2 * prompt.length * SHAPE.hiddenSize)
      // Where products round their inputs, some of so many rows round otherwise on the CPU.
      const most = quantization === undefined ? 1e-4 : MOST_DIFFERENCE
      expect(Math.max(...one.map((x, i) => Math.abs(x - other[i]!)))).toBeLessThan(most * largest)
      if (quantization !== undefined) return

      await using here = await LocalStages.open(cpu, model)
      await using there = await LocalStages.open(gpu, model)
      const expected = await here.feed(prompt)
      const token = await there.feed(prompt)
      expect(token.id).toBe(expected.id)
      expect(token.logprob).toBeCloseTo(expected.logprob, 4)
    }
  )

  test('refuses by name what its kernels leave out, so that the CPU takes it', async () => {
    await using model = await randomModel({ shape: LAYERED })
    const { manifest, blobsDir } = model
    const refused = /layer 1: scores that are kept within a cap are not computed on a GPU/
    await expect(gpu.load({ manifest, range: [0, 3], blobsDir })).rejects.toThrow(refused)
    const others = await gpu.load({ manifest, range: [2, 4], blobsDir })
    await others.release()
    const stages = new StageRuntime(cpu, {
      runtime: gpu,
      guard: { refusal: undefined },
      refusals: { reasonOf: () => undefined, add: () => undefined, forget: () => false }
    })
    const shard = await stages.load({ manifest, range: [0, 3], blobsDir })
    expect(shard.range).toEqual([0, 3])
    await shard.release()
  })

  test('gives the same in chunks, after steps back, over two stages on one GPU, and in slots beside others', async () => {
    await using model = await randomModel({
      shape: { ...SHAPE, decoderLayers: 2 },
      quantization: { bits: 4, blockSize: 128 }
    })
    const { manifest, blobsDir } = model
    const near = (token: SampledToken, expected: SampledToken) => {
      expect(token.id).toBe(expected.id)
      expect(token.logprob).toBeCloseTo(expected.logprob, 4)
    }
    await using whole = await LocalStages.open(gpu, model)
    const expected = await whole.feed(PROMPT)
    await whole.restart()
    near(await whole.feed(PROMPT, 4), expected)
    await using cut = await LocalStages.open(gpu, model, [2])
    near(await cut.feed(PROMPT), expected)

    const shard = await gpu.load({ manifest, range: [0, 4], blobsDir, lanes: 2 })
    const batch = await shard.openBatch({ slots: 3, maxTokens: 32 })
    const sessions = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
    for (const session of sessions) {
      await session.forward({ position: 0, input: Int32Array.from(PROMPT.slice(0, -1)), sample: false })
    }
    // What a third slot gets from the first one.
    const kept = PROMPT.length - 1
    sessions.push(await batch.open({ sampling: GREEDY, keepTokens: kept, copyFrom: 0 }))
    const input = Int32Array.from(sessions, () => PROMPT.at(-1)!)
    const drawn = await batch.decode(sessions, { positions: sessions.map(() => kept), input })
    if (drawn.kind !== 'tokens') throw new Error('a whole model has drawn no tokens')
    for (const token of drawn.tokens) near(token!, expected)
    await shard.release()
  })

  test('gives back what it held: 50 loads leave the process no larger', async () => {
    await using model = await randomModel({ shape: { ...SHAPE, decoderLayers: 1 } })
    const { manifest, blobsDir } = model
    const cycle = async () => {
      const shard = await gpu.load({ manifest, range: [1, 2], blobsDir })
      await shard.openBatch({ slots: 4, maxTokens: 127 })
      await shard.release()
    }
    for (let i = 0; i < 10; i++) await cycle()
    const before = await residentBytes(gpu.pid!)
    for (let i = 0; i < 50; i++) await cycle()
    const grown = (await residentBytes(gpu.pid!)) - before
    const weights = model.files[1]!.length
    // Less than five of the fifty loads.
    expect(grown).toBeLessThan(5 * weights)
  })

  test('a mesh of a CPU node and a GPU node answers as one CPU does, also when the GPU process is killed', async () => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    const shape = { ...SHAPE, decoderLayers: 2 }
    const manifest = await storeRandomModel(join(home, 'store'), 'mixed', shape, { bits: 4, blockSize: 128 })
    const { weightBytes, ownBytes } = leaseBytes(manifest, [0, 4], { slots: 1, maxTokens: 256 })
    const bytes = weightBytes + ownBytes
    const request = ask('Once upon a time', { model: 'mixed', maxTokens: 8 })
    const alone = await nodes.add({ home, name: 'alone', memoryBytes: 4 * bytes, bundled: false })
    const expected = await answer(alone, request)
    await alone.stop()

    const memoryBytes = Math.ceil(0.75 * bytes)
    const source = await nodes.add({ home, name: 'cpu', memoryBytes, bundled: false })
    const peers = source.addresses.slice(0, 1)
    const notices: string[] = []
    const other = await nodes.add({
      ...{ name: 'gpu', device: 'gpu', memoryBytes, bundled: false, peers },
      onNotice: message => notices.push(message)
    })
    await until(() => source.mesh().peers.some(peer => peer.connected))
    expect(other.mesh().self.processors).toMatchObject([
      { kind: 'cpu', used: false },
      { kind: 'gpu', used: true }
    ])
    const mixed = await answer(source, request)
    expect(mixed.plan.stages.map(({ name }) => name)).toEqual(['cpu', 'gpu'])
    expect(mixed.tokens).toEqual(expected.tokens)

    const events = source.generate(request)
    await nextOf(events, 'text')
    process.kill(await processOf('gpu-process', gpu.pid), 'SIGKILL')
    const { result } = await nextOf(events, 'done')
    expect(result.tokens).toEqual(expected.tokens)
    expect(result.recoveries).toBe(1)
    expect(notices).toContain(
      'the process of the GPU ended (SIGKILL): layers are computed on the CPU for the next 10 min'
    )
    expect(other.mesh().self.processors).toMatchObject([
      { kind: 'cpu', used: true },
      { kind: 'gpu', used: false }
    ])
  })

  test('a node with a model larger than its GPU’s memory answers by its GPU and its CPU as one CPU does', async () => {
    await using nodes = new Nodes()
    const home = await nodes.home()
    const shape = { ...SHAPE, decoderLayers: 2 }
    const manifest = await storeRandomModel(join(home, 'store'), 'both', shape, { bits: 4, blockSize: 128 })
    const { weightBytes, ownBytes } = leaseBytes(manifest, [0, 4], { slots: 1, maxTokens: 256 })
    const bytes = weightBytes + ownBytes
    const request = ask('Once upon a time', { model: 'both', maxTokens: 8 })
    const alone = await nodes.add({ home, name: 'alone', memoryBytes: 4 * bytes, bundled: false })
    const expected = await answer(alone, request)
    await alone.stop()

    const gpuMemoryBytes = Math.ceil(0.75 * bytes)
    const memoryBytes = 2 * gpuMemoryBytes
    const node = await nodes.add({ home, device: 'gpu', gpuMemoryBytes, memoryBytes, bundled: false })
    const result = await answer(node, request)
    expect(result.tokens).toEqual(expected.tokens)
    const { stages } = result.plan
    expect(new Set(stages.map(({ processor }) => processor))).toEqual(new Set(['cpu', 'gpu']))
    for (const { processor, bitsClass } of stages)
      expect(bitsClass?.slice(0, 3)).toBe(processor === 'gpu' ? 'gpu' : undefined)
  })
})

/** Hidden states of ordinary size. */
function hiddenOf(tokens: number, hiddenSize = SHAPE.hiddenSize): HiddenStates {
  const hidden = allocateHidden(tokens, hiddenSize)
  hidden.data.forEach((_, i) => {
    hidden.data[i] = Math.sin(i)
  })
  return hidden
}

/** The process of this one's that runs a file of such a name, and is not `not`. */
async function processOf(name: string, not: number | undefined): Promise<number> {
  for (const pid of (await readdir('/proc')).filter(entry => /^\d+$/.test(entry)).map(Number)) {
    // Processes come and go while they are listed.
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    const isOwn = status.includes(`PPid:\t${process.pid}\n`)
    if (pid !== not && isOwn && command.includes(name) && (await readlink(`/proc/${pid}/exe`))) return pid
  }
  throw new Error(`no process runs ${name}`)
}

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1])
}
