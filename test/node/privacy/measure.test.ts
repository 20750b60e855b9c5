import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../../models/runtime/client.ts'
import type { Runtime } from '../../../models/runtime/runtime.ts'
import { ModelStore, type StoredModel } from '../../../models/store/store.ts'
import type { Tokenizer } from '../../../models/tokenizer/tokenizer.ts'
import { BUNDLED_DIR } from '../../../node/bundled.ts'
import { DEFAULT_MODEL } from '../../../node/constants.ts'
import { measurePrivacy } from '../../../node/privacy/measure.ts'
import { TEXT } from '../../../node/privacy/text.ts'
import { sideFilesOf, tokenizerOf } from '../../../node/source/placement/model-tokenizer.ts'

const store = ModelStore.at(BUNDLED_DIR)
let runtime: Runtime
let model: StoredModel
let tokenizer: Tokenizer
const encoded = (texts: readonly string[]) => Promise.all(texts.map(text => tokenizer.encode(text)))

beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  model = await store.resolve(DEFAULT_MODEL)
  tokenizer = await tokenizerOf(await sideFilesOf(store, model), model.manifest)
})

afterAll(async () => {
  await tokenizer.close()
  await runtime.stop()
})

it('a hidden state behind the embedding is the token, and a map finds most tokens behind the layers, too', async () => {
  const { manifest } = model
  const sequences = await encoded(TEXT.slice(0, 90))
  const steps: number[] = []
  const report = await measurePrivacy({
    manifest,
    blobsDir: store.blobsDir,
    runtime,
    sequences,
    onProgress: done => steps.push(done)
  })
  expect(report.rows.map(({ decoderLayers }) => decoderLayers)).toEqual([0, 1, 2, 4, 8])
  expect(report.rows[0]).toMatchObject({ nearest: 1, fitted: 1 })
  // Of the bundled model 97 % and 65 % by all of the text.
  expect(report.rows[1]!.fitted).toBeGreaterThan(0.5)
  expect(report.rows[1]!.nearest).toBeLessThan(report.rows[1]!.fitted)
  expect(report.rows[4]!.fitted).toBeLessThan(report.rows[1]!.fitted)
  expect(report.guessing).toBeLessThan(report.rows[4]!.fitted)
  expect(report.rows.map(row => row.computeMs)).toEqual(
    report.rows.map(row => row.computeMs).toSorted((a, b) => a - b)
  )
  expect(steps).toEqual([1, 2, 3, 4, 5, 6])
})

it('a text that is too short is refused, and who gives up is heard', async () => {
  const { manifest } = model
  const init = { manifest, blobsDir: store.blobsDir, runtime }
  const short = measurePrivacy({ ...init, sequences: await encoded(TEXT.slice(0, 3)) })
  await expect(short).rejects.toMatchObject({ code: 'sample_too_small' })
  const sequences = await encoded(TEXT.slice(0, 90))
  const left = measurePrivacy({ ...init, sequences, signal: AbortSignal.abort(new Error('left')) })
  await expect(left).rejects.toThrow('left')
})
