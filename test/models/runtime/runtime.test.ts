import { createCipheriv } from 'node:crypto'
import { readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Manifest } from '../../../models/manifest.ts'
import { startRuntime } from '../../../models/runtime/client.ts'
import { allocateHidden } from '../../../models/runtime/hidden.ts'
import type { Runtime } from '../../../models/runtime/runtime.ts'
import { type RandomModel, randomModel } from '../../fixtures/random-model.ts'
import { GREEDY, LocalStages } from '../../fixtures/shards.ts'

let runtime: Runtime
let model: RandomModel
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
beforeEach(async () => {
  model = await randomModel()
})
afterEach(() => model[Symbol.asyncDispose]())
afterAll(() => runtime.stop())

const whole = () => [0, model.manifest.layers.length] as const
const loadWhole = () => runtime.load({ ...model, range: whole() })
const tokens = (...ids: number[]) => Int32Array.from(ids)
const step = (position: number, ...ids: number[]) => ({ position, input: tokens(...ids), sample: true })

describe('load', () => {
  it('names the layer and the file of a missing weight file', async () => {
    const file = model.manifest.layers[2]!.sha256
    await rm(join(model.blobsDir, file))
    await expect(loadWhole()).rejects.toMatchObject({ name: 'BlobError', problem: 'missing', sha256: file })
    await expect(loadWhole()).rejects.toThrow(/layer 2 is missing/)
  })

  it('names the layer and the sizes of a truncated weight file', async () => {
    const { sha256, bytes } = model.manifest.layers[3]!
    await truncate(join(model.blobsDir, sha256), bytes - 64)
    await expect(loadWhole()).rejects.toMatchObject({ name: 'BlobError', problem: 'size' })
    await expect(loadWhole()).rejects.toThrow(`layer 3 has ${bytes - 64} bytes instead of ${bytes}`)
  })

  it('refuses a manifest whose tensors do not fit the shape, naming layer and tensor', async () => {
    const manifest: Manifest = structuredClone(model.manifest)
    manifest.layers[1]!.tensors[1]!.shape[0]! += 1
    const load = runtime.load({ ...model, manifest, range: whole() })
    await expect(load).rejects.toMatchObject({ name: 'ManifestError' })
    await expect(load).rejects.toThrow(/layer 1: tensor qkv/)
  })

  it('reads only the files of its range', async () => {
    await rm(join(model.blobsDir, model.manifest.layers[0]!.sha256))
    const shard = await runtime.load({ ...model, range: [1, 3] })
    expect(shard.range).toEqual([1, 3])
    await shard.release()
  })

  it('refuses ranges that are empty, reversed or beyond the model', async () => {
    for (const range of [
      [1, 1],
      [3, 2],
      [0, 6],
      [-1, 2],
      [0.5, 2]
    ] as const) {
      await expect(runtime.load({ ...model, range })).rejects.toThrow(/are not a range in \[0, 5\)/)
    }
  })

  it('gives up when the signal aborts', async () => {
    const signal = AbortSignal.abort(new Error('changed my mind'))
    await expect(runtime.load({ ...model, range: whole() }, { signal })).rejects.toThrow('changed my mind')
    const controller = new AbortController()
    const load = runtime.load({ ...model, range: whole() }, { signal: controller.signal })
    controller.abort(new Error('too slow'))
    await expect(load).rejects.toThrow('too slow')
  })
})

describe('open', () => {
  it('refuses more tokens than the context, and sampling that makes no sense', async () => {
    const shard = await loadWhole()
    await expect(shard.open({ maxTokens: 129, sampling: GREEDY })).rejects.toMatchObject({
      name: 'ContextOverflowError',
      maxTokens: 128
    })
    await expect(shard.open({ maxTokens: 8 })).rejects.toThrow(/needs to know how to sample/)
    for (const wrong of [
      { temperature: -1 },
      { temperature: Number.NaN },
      { topP: 0 },
      { topLogprobs: 21 },
      { topK: 0 },
      { logitBias: [[model.manifest.shape.vocabSize, 1] as const] },
      { ends: [model.manifest.shape.vocabSize] },
      { reply: { promptTokens: 1, knownTokens: 1, lastIds: [model.manifest.shape.vocabSize] } }
    ]) {
      const sampling = { ...GREEDY, ...wrong }
      await expect(shard.open({ maxTokens: 8, sampling })).rejects.toMatchObject({
        name: 'RuntimeInputError'
      })
    }
    await shard.release()
  })
})

describe('forward', () => {
  it('refuses a step at another position than the cache has, and goes on at the right one', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 16, sampling: GREEDY })
    await session.forward(step(0, 1, 2, 3))
    await expect(session.forward(step(2, 4))).rejects.toMatchObject({
      name: 'PositionError',
      expected: 3,
      got: 2
    })
    expect((await session.forward(step(3, 4))).kind).toBe('token')
    await shard.release()
  })

  it('refuses tokens beyond the session, and accepts those that just fit', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 4, sampling: GREEDY })
    await expect(session.forward(step(0, 1, 2, 3, 4, 5))).rejects.toThrow(
      '0 + 5 tokens do not fit a session of 4'
    )
    expect((await session.forward(step(0, 1, 2, 3, 4))).kind).toBe('token')
    await expect(session.forward(step(4, 1))).rejects.toMatchObject({ name: 'ContextOverflowError' })
    await shard.release()
  })

  it('refuses ids outside the vocabulary, empty steps and hidden states of the wrong size', async () => {
    const first = await runtime.load({ ...model, range: [0, 2] })
    const session = await first.open({ maxTokens: 8 })
    await expect(session.forward(step(0, 160))).rejects.toThrow('token 160 is not in [0, 160)')
    await expect(session.forward(step(0, -1))).rejects.toMatchObject({ name: 'RuntimeInputError' })
    await expect(session.forward(step(0))).rejects.toThrow('at least one token')
    const second = await runtime.load({ ...model, range: [2, 4] })
    const hidden = await second.open({ maxTokens: 8 })
    const input = { tokens: 2, data: allocateHidden(1, 64).data }
    await expect(hidden.forward({ position: 0, input, sample: false })).rejects.toThrow('must have 512 bytes')
    await expect(hidden.forward(step(0, 1))).rejects.toThrow('layer 2 takes hidden states')
    await Promise.all([first.release(), second.release()])
  })

  it('says so when hidden states are not numbers', async () => {
    const shard = await runtime.load({ ...model, range: [4, 5] })
    const session = await shard.open({ maxTokens: 8, sampling: GREEDY })
    const input = allocateHidden(1, 64)
    input.data.fill(Number.NaN)
    await expect(session.forward({ position: 0, input, sample: true })).rejects.toThrow('not finite')
    await shard.release()
  })

  it.each([undefined, { bits: 8, blockSize: 32 }, { bits: 4, blockSize: 32 }] as const)(
    'survives hidden states that a peer made up (%j), and computes the next ones',
    async quantization => {
      await using own = await randomModel(quantization === undefined ? {} : { quantization })
      const shard = await runtime.load({ ...own, range: [2, 5] })
      const session = await shard.open({ maxTokens: 16, sampling: { ...GREEDY, temperature: 1, topP: 0.9 } })
      const wild = [Number.NaN, Infinity, -Infinity, 3.4e38, -1e38, 1e-42, 0, 1]
      for (let tokens = 1; tokens <= 9; tokens++) {
        const input = allocateHidden(tokens, 64)
        input.data.forEach((_, i) => {
          input.data[i] = wild[(i * 7 + tokens) % wild.length]!
        })
        await expect(session.forward({ position: 0, input, sample: true })).rejects.toThrow('not finite')
      }
      const input = allocateHidden(1, 64)
      input.data.fill(0.3)
      expect((await session.forward({ position: 0, input, sample: true })).kind).toBe('token')
      await shard.release()
    }
  )

  it('skips the head where nothing is to be sampled', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 8, sampling: GREEDY })
    const output = await session.forward({ position: 0, input: tokens(1, 2), sample: false })
    expect(output.kind).toBe('none')
    await shard.release()
  })

  it('answers several steps of one session in order', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 16, sampling: GREEDY })
    const steps = [step(0, 1, 2), step(2, 3), step(3, 4), step(4, 5)]
    const outputs = await Promise.all(steps.map(s => session.forward(s)))
    expect(outputs.map(o => o.kind)).toEqual(['token', 'token', 'token', 'token'])
    await shard.release()
  })

  it('leaves hidden states in shared memory that a cipher reads without a copy', async () => {
    const shard = await runtime.load({ ...model, range: [0, 2] })
    const session = await shard.open({ maxTokens: 8 })
    const output = await session.forward({ position: 0, input: tokens(7), sample: false })
    if (output.kind !== 'hidden') throw new Error(output.kind)
    const { buffer, byteOffset, byteLength } = output.hidden.data
    expect(buffer).toBeInstanceOf(SharedArrayBuffer)
    const view = new Uint8Array(buffer, byteOffset, byteLength)
    const encrypt = (bytes: Uint8Array) =>
      createCipheriv('chacha20-poly1305', new Uint8Array(32), new Uint8Array(12), { authTagLength: 16 })
        .update(bytes)
        .toString('hex')
    expect(encrypt(view)).toBe(encrypt(Uint8Array.from(view)))
    await shard.release()
  })
})

describe('trim', () => {
  it('forgets tokens so that a step can be taken again', async () => {
    await using stages = await LocalStages.open(runtime, model, [2])
    const [first] = await stages.generate([1, 2, 3], 3)
    await Promise.all(stages.sessions.map(session => session.trim(2)))
    stages.length = 2
    const again = await stages.feed([3])
    expect(again.id).toBe(first!.id)
    expect(again.logprob).toBeCloseTo(first!.logprob, 4)
    await expect(stages.sessions[0]!.trim(4)).rejects.toThrow('the session has 3')
  })
})

describe('the end of things', () => {
  it('closing a session rejects what it still waits for, and what is asked later', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 64, sampling: GREEDY })
    const pending = session.forward(step(0, 1, 2, 3))
    const closed = session.close()
    await expect(pending).rejects.toMatchObject({ name: 'SessionClosedError' })
    await expect(session.forward(step(0, 1))).rejects.toMatchObject({ name: 'SessionClosedError' })
    await closed
    await shard.release()
  })

  it('releasing a shard ends its sessions and leaves others alone', async () => {
    const [one, other] = [await loadWhole(), await loadWhole()]
    const session = await one.open({ maxTokens: 8, sampling: GREEDY })
    const survivor = await other.open({ maxTokens: 8, sampling: GREEDY })
    await one.release()
    await expect(session.forward(step(0, 1))).rejects.toThrow('its shard was released')
    await expect(one.open({ maxTokens: 8, sampling: GREEDY })).rejects.toThrow('the shard was released')
    expect((await survivor.forward(step(0, 1))).kind).toBe('token')
    await other.release()
  })

  it('stopping rejects what is pending and everything after', async () => {
    const own = await startRuntime({ threads: 1 })
    const shard = await own.load({ ...model, range: whole() })
    const session = await shard.open({ maxTokens: 8, sampling: GREEDY })
    const pending = session.forward(step(0, 1))
    const stopped = own.stop()
    await expect(pending).rejects.toMatchObject({ name: 'RuntimeStoppedError' })
    await stopped
    await expect(own.load({ ...model, range: whole() })).rejects.toThrow('the runtime was stopped')
  })

  it('loading and profiling do not keep other shards waiting', async () => {
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 128, sampling: GREEDY })
    await session.forward(step(0, 1))
    const order: string[] = []
    const profile = runtime.profile(model.manifest.shape).then(() => order.push('profile'))
    for (let i = 1; i <= 20; i++) await session.forward(step(i, 2))
    order.push('steps')
    await profile
    expect(order).toEqual(['steps', 'profile'])
    await shard.release()
  })

  it('a shard can be released twice, also after the runtime was stopped', async () => {
    const own = await startRuntime({ threads: 1 })
    const shard = await own.load({ ...model, range: whole() })
    await Promise.all([shard.release(), shard.release()])
    const other = await own.load({ ...model, range: whole() })
    await own.stop()
    await other.release()
    await expect(other.open({ maxTokens: 8, sampling: GREEDY })).rejects.toThrow('the shard was released')
  })

  it('a load that was given up leaves the runtime as it was', async () => {
    const own = await startRuntime({ threads: 1 })
    for (let i = 0; i < 5; i++) {
      const controller = new AbortController()
      const load = own.load({ ...model, range: whole() }, { signal: controller.signal })
      controller.abort(new Error('too slow'))
      await expect(load).rejects.toThrow('too slow')
    }
    const shard = await own.load({ ...model, range: whole() })
    expect(shard.range).toEqual(whole())
    await own.stop()
  })

  it('a damaged weight file gives damaged tokens, never a crash', async () => {
    const { sha256 } = model.manifest.layers[1]!
    const path = join(model.blobsDir, sha256)
    const bytes = await readFile(path)
    await writeFile(path, bytes.fill(255))
    const shard = await loadWhole()
    const session = await shard.open({ maxTokens: 8, sampling: GREEDY })
    await expect(session.forward(step(0, 1))).rejects.toMatchObject({ name: 'NotFiniteError' })
    await shard.release()
  })
})
