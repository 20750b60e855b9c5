import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ImportOptions } from '../../models/import/import-model.ts'
import { importModel } from '../../models/import/import-model.ts'
import { judgeGguf } from '../../models/import/judge.ts'
import type { StoreOffer } from '../../models/import/store-cost.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { encodeGguf, tinyGguf, writeGguf } from '../fixtures/gguf.ts'

const K_QUANTS = tinyGguf({ other: 'Q4_K', attn_v: 'Q6_K', width: 256, layers: 2 })

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let path: string
let store: ModelStore
beforeEach(async () => {
  folder = await temporaryFolder()
  path = join(folder.path, 'model.gguf')
  store = await ModelStore.open(join(folder.path, 'store'))
  await writeGguf(path, K_QUANTS)
})
afterEach(() => folder[Symbol.asyncDispose]())

/** An import, with what was said, asked and done, in that order. */
async function imported(options: Partial<ImportOptions>) {
  const heard: string[] = []
  const { manifest } = await importModel(path, store, {
    name: 'x',
    checkTokenizer: false,
    onNotice: notice => heard.push(notice),
    onProgress: done => heard.push(`layer ${done}`),
    ...options
  })
  return { heard, precision: manifest.precision, bytes: weightBytes(manifest) }
}

describe('an import of K-quants', () => {
  it('without a word on rounding says both sizes and the error before a layer is written, and keeps the values', async () => {
    const { heard, bytes } = await imported({})
    const size = `${(bytes / 1e6).toFixed(2)} MB`
    expect(heard[0]).toMatch(
      new RegExp(
        `^with its own values the model takes ${size} in the store, 1\\.\\d\\d times the [\\d.]+ MB of its file; otherwise it would ` +
          'take: .*--quantize q4 [\\d.]+ MB at a relative error of [\\d.]+ %.*; it is taken with its own values'
      )
    )
    expect(heard[1]).toBe('layer 1')
    expect(heard.filter(one => !one.startsWith('layer'))).toHaveLength(1)
  })

  it('asks who can be asked, before a layer is written, and does what is chosen at the cost that was shown', async () => {
    const offers: StoreOffer[] = []
    const plain = await imported({})
    const chosen = await imported({
      choose: async offer => {
        offers.push(offer)
        return offer.others.at(-1)
      }
    })
    const [{ planned, others, fileBytes }] = offers as [StoreOffer]
    expect(chosen.heard[0]).toBe('layer 1')
    expect(planned).toEqual({ storeBytes: plain.bytes, relativeError: 0 })
    expect(planned.storeBytes / fileBytes).toBeGreaterThan(1.1)
    expect(others.at(-1)).toMatchObject({ quantize: 'q4', storeBytes: chosen.bytes })
    expect(others.at(-1)!.relativeError).toBeGreaterThan(0.01)
    expect(chosen.bytes).toBeLessThan(plain.bytes)
    expect(offers).toHaveLength(1)
    expect((await imported({ choose: async () => undefined })).bytes).toBe(plain.bytes)
  })

  it('with a mode says what that takes, at which error, and what the own values would take', async () => {
    const plain = await imported({})
    const { heard, bytes } = await imported({
      ...{ quantize: 'q4', blockSize: 32 },
      choose: async () => expect.unreachable('a mode was named')
    })
    const said =
      /^Q4_K and Q6_K: rounded to 4 bits in blocks of 32, at a relative error of ([\d.]+) % .* takes ([\d.]+) MB, .* ([\d.]+) MB$/
    const [, error, rounded, own] = said.exec(heard[0]!)!
    expect(Number(error)).toBeGreaterThan(1)
    expect(Number(rounded)).toBeCloseTo(bytes / 1e6, 2)
    expect(Number(own)).toBeCloseTo(plain.bytes / 1e6, 2)
    expect(heard[1]).toBe('layer 1')
  })

  it('says nothing where the cost was said before', async () => {
    const { heard } = await imported({ isCostKnown: true })
    expect(heard[0]).toBe('layer 1')
  })
})

it('a GGUF model that lies elsewhere is offered by a few of its rows', async () => {
  const large = encodeGguf(tinyGguf({ other: 'Q4_K', width: 256, layers: 12 }))
  const reads: number[] = []
  const part = async (name: string) => ({
    path: name,
    size: large.byteLength,
    identity: undefined,
    read: async (offset: number, into: Uint8Array) => {
      reads.push(into.byteLength)
      into.set(large.subarray(offset, offset + into.byteLength))
    },
    close: async () => {}
  })
  const notices: string[] = []
  expect(await judgeGguf('x.gguf', part, { onNotice: notice => notices.push(notice) })).toBeUndefined()
  expect(notices).toEqual([expect.stringMatching(/1\.\d\d times the .* --quantize q4 .* relative error/)])
  // Twelve tensors of 86, of 256 rows or 128, once for all roundings.
  const rowBytes = 144
  const sampled = reads.filter(bytes => bytes === 256 * rowBytes || bytes === 128 * rowBytes)
  expect(sampled.length).toBeGreaterThan(6)
  expect(sampled.length).toBeLessThanOrEqual(12)
  const chosen = await judgeGguf('x.gguf', part, { choose: async ({ others }) => others[0] })
  expect(chosen).toMatchObject({ quantize: 'q4', blockSize: 32 })
  // Before a person is asked, and before the gigabytes come.
  const choose = async () => expect.unreachable('it cannot be had')
  await expect(judgeGguf('x.gguf', part, { mtp: true, choose })).rejects.toThrow(/none of llama is known/)
})
