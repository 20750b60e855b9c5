import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../../models/runtime/client.ts'
import type { Runtime } from '../../../models/runtime/runtime.ts'
import { MIXED, STATEFUL, TINY_SHAPE } from '../../fixtures/random-model.ts'

let runtime: Runtime
let temporary: string
beforeAll(async () => {
  // The profile then writes where nothing else does.
  process.env.TMPDIR = temporary = await mkdtemp(join(tmpdir(), 'edgeshard-test-'))
  process.env.XDG_CACHE_HOME = process.env.HOME = temporary
  runtime = await startRuntime({ threads: 1 })
})
afterAll(async () => {
  await runtime.stop()
  await rm(temporary, { recursive: true })
})

it.each([undefined, { bits: 8, blockSize: 32 } as const, { bits: 4, blockSize: 64 } as const])(
  'times each kind of layer (%j) and leaves no file behind',
  async quantization => {
    const profile = await runtime.profile({ ...TINY_SHAPE, decoderLayers: 12 }, quantization)
    for (const kind of ['embedding', 'decoder', 'head'] as const) {
      expect(profile[kind].decodeMs, kind).toBeGreaterThan(0)
      expect(profile[kind].prefillMsPerToken, kind).toBeGreaterThan(0)
    }
    // Nor one of ONNX Runtime's telemetry, which keeps a session and a device id.
    expect(await readdir(temporary)).toEqual([])
  }
)

it('times attention with more and more tokens before, as far as the context goes', async () => {
  const { decoder, head, embedding } = await runtime.profile({ ...TINY_SHAPE, contextLength: 3072 })
  // The longest one leaves room for a chunk behind it.
  expect(Object.keys(decoder.decodeMsByContext!)).toEqual(['32', '2048', '3040'])
  expect(Object.keys(decoder.prefillMsPerTokenByContext!)).toEqual(['16', '2064', '3056'])
  expect(decoder.decodeMsByContext![32]).toBe(decoder.decodeMs)
  expect(decoder.prefillMsPerTokenByContext![16]).toBe(decoder.prefillMsPerToken)
  expect([head, embedding].flatMap(Object.keys)).not.toContain('decodeMsByContext')
  const short = await runtime.profile({ ...TINY_SHAPE, contextLength: 40 })
  expect(Object.keys(short.decoder.decodeMsByContext!)).toEqual(['32'])
})

it('times layers with states, which take the same however many tokens are before', async () => {
  const profile = await runtime.profile({ ...TINY_SHAPE, ...STATEFUL, contextLength: 3072 })
  for (const kind of ['decoder', 'decoder-1'] as const) {
    expect(Object.keys(profile[kind]!.decodeMsByContext!), kind).toEqual(['32'])
    expect(profile[kind]!.decodeMs, kind).toBeGreaterThan(0)
  }
  expect(Object.keys(profile['decoder-2']!.decodeMsByContext!)).toEqual(['32', '2048', '3040'])
})

it('finds that wider layers take longer', async () => {
  const narrow = await runtime.profile(TINY_SHAPE)
  const wide = await runtime.profile({ ...TINY_SHAPE, hiddenSize: 1024, ffnSize: 4096 })
  expect(wide.decoder.decodeMs).toBeGreaterThan(narrow.decoder.decodeMs)
})

it('times batches, contexts and prompts in detail, as far as the context goes', async () => {
  const { decoder, head, embedding } = await runtime.profileInDetail(TINY_SHAPE)
  expect(Object.keys(decoder.decodeMsByBatch)).toEqual(['1', '2', '4', '8'])
  expect(Object.keys(decoder.prefillMsByTokens)).toEqual(['1', '8', '32', '128'])
  expect(Object.keys(decoder.decodeMsByContext!)).toEqual(['32', '96'])
  expect(Object.keys(decoder.prefillMsPerTokenByContext!)).toEqual(['16', '112'])
  expect(head.prefillMsByTokens).toEqual({ 1: head.decodeMs, 128: head.decodeMs })
  expect(embedding.decodeMsByContext).toBeUndefined()
  const all = [decoder, head, embedding].flatMap(t => [
    ...Object.values(t.decodeMsByBatch),
    ...Object.values(t.prefillMsByTokens)
  ])
  for (const ms of all) expect(ms).toBeGreaterThan(0)
})

it('times experts with more numbers of sequences, as each is sent to others', async () => {
  const profile = await runtime.profile({ ...TINY_SHAPE, ...MIXED })
  expect(Object.keys(profile)).toEqual(['embedding', 'decoder', 'decoder-1', 'decoder-2', 'head'])
  expect(Object.keys(profile.decoder.decodeMsByBatch)).toEqual(['1', '2', '4', '8', '16'])
  expect(Object.keys(profile['decoder-2']!.decodeMsByBatch)).toEqual(['1', '2', '16'])
})

it('times the layers of each block apart', async () => {
  const [block] = TINY_SHAPE.blocks
  const wide = { ...block!, feedForward: { ...block!.feedForward, size: 4096 } }
  const shape = { ...TINY_SHAPE, blocks: [block!, wide], layout: [0, 1] }
  const profile = await runtime.profile(shape)
  expect(Object.keys(profile)).toEqual(['embedding', 'decoder', 'decoder-1', 'head'])
  expect(profile['decoder-1']!.decodeMs).toBeGreaterThan(profile.decoder.decodeMs)
})
