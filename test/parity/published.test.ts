import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { HIDDEN, VOCABULARY, writeFamily } from '../fixtures/published-checkpoint.ts'
import { FAMILIES } from '../fixtures/published-families.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { publishedLogProbabilities } from '../reference/published.ts'

const PROMPT = Array.from({ length: 13 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 6
/** Float32 against float64. */
const TOLERANCE = 1e-4

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it.each(FAMILIES)('%s %j computes as its published code, whole and cut', async (type, config, family) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeFamily(dir, type, config, family)
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const model = { manifest, blobsDir: store.blobsDir }
  // That every cut leaves the same bits, whatever layers have, is split.test.ts's.
  for (const cuts of [[], [1, 3]]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = publishedLogProbabilities(family, name => tensors.get(name)!, HIDDEN, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})
