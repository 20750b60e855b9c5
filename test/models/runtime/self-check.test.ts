import { expect, it } from 'vitest'
import { startRuntime } from '../../../models/runtime/client.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { keepsBits } from '../../../models/runtime/self-check.ts'
import { ShardExecutor } from '../../../models/runtime/shard-executor.ts'
import { MIXED, randomModel } from '../../fixtures/random-model.ts'
import { GREEDY } from '../../fixtures/shards.ts'

const PROCESSOR = new CpuProcessor({ threads: 1, spinUs: 0 })

it('finds a shard whose runs do not keep the bits, whatever its range begins and ends with', async () => {
  await using model = await randomModel({ quantization: { bits: 4, blockSize: 32 } })
  const { manifest, blobsDir } = model
  for (const range of [
    [0, 5],
    [0, 2],
    [2, 4],
    [3, 5],
    [0, 1],
    [4, 5]
  ] as const) {
    const shard = await ShardExecutor.load({ manifest, range: [...range], blobsDir, lanes: 2 }, PROCESSOR)
    const run = shard.run.bind(shard)
    let runs = 0
    // As kernels would that round otherwise for some number of rows: every second run is off by little.
    shard.run = async (feeds, fetches) => {
      await run(feeds, fetches)
      for (const name of ['hidden', 'logits']) {
        const output = fetches[name]?.data
        if (output instanceof Float32Array && runs++ % 2 === 1)
          output.forEach((x, i) => {
            output[i] = x * (1 + 1e-6)
          })
      }
    }
    expect(await keepsBits(shard)).toBe(false)
    await shard.release()
  }
})

it('is asked of sessions that are to be exact, and of no others', async () => {
  await using model = await randomModel()
  await using runtime = Object.assign(await startRuntime({ threads: 1 }), {
    [Symbol.asyncDispose]: () => runtime.stop()
  })
  const { manifest, blobsDir } = model
  const shard = await runtime.load({ manifest, range: [0, 5], blobsDir })
  const batch = await shard.openBatch({ slots: 2, maxTokens: 8 })
  const plain = await batch.open({ sampling: GREEDY })
  const exact = await batch.open({ sampling: GREEDY, exact: true })
  const alone = await shard.open({ maxTokens: 8, sampling: GREEDY, exact: true })
  expect(plain.exact).toBe(false)
  // Whatever the kernels of this machine do, the answer is one for the shard.
  expect(alone.exact).toBe(exact.exact)
})

it('is true of experts wherever it is of a dense model: none of them computes a row alone', async () => {
  const quantization = { bits: 4, blockSize: 32 } as const
  const keeps = async (shape: Parameters<typeof randomModel>[0]) => {
    await using model = await randomModel({ ...shape, quantization })
    const { manifest, blobsDir } = model
    const shard = await ShardExecutor.load({ manifest, range: [0, 5], blobsDir, lanes: 2 }, PROCESSOR)
    try {
      return await keepsBits(shard)
    } finally {
      await shard.release()
    }
  }
  expect(await keeps({ shape: MIXED })).toBe(await keeps({}))
})

it('leaves query heads apart where as rows they come to other bits, and sequences exact', async () => {
  await using model = await randomModel({ shape: { contextLength: 2048 } })
  const { manifest, blobsDir } = model
  const load = () => ShardExecutor.load({ manifest, range: [0, 5], blobsDir, lanes: 2 }, PROCESSOR)
  const rowsOf = (shard: ShardExecutor) => shard.grouped!.of({ position: 1500, rows: 2, capacity: 1600 })
  const [good, bad] = [await load(), await load()]
  const keeps = await keepsBits(good)
  expect(rowsOf(bad)).toBe(2)
  const run = bad.run.bind(bad)
  bad.run = async (feeds, fetches) => {
    await run(feeds, fetches)
    const isGrouped = (feeds.grouped_rows!.data as Int32Array)[0]! > 0
    const logits = fetches.logits!.data as Float32Array
    if (isGrouped) logits.forEach((x, i) => void (logits[i] = x * (1 + 1e-6)))
  }
  expect(await keepsBits(bad)).toBe(keeps)
  expect(rowsOf(bad)).toBe(keeps ? 0 : 2)
  for (const shard of [good, bad]) await shard.release()
})

it('is of shards whose groups are larger than the context has room for, too', async () => {
  const shape = { heads: 512, kvHeads: 1, headSize: 8, contextLength: 1100 }
  await using model = await randomModel({ shape })
  const { manifest, blobsDir } = model
  const shard = await ShardExecutor.load({ manifest, range: [1, 2], blobsDir }, PROCESSOR)
  expect(shard.grouped!.largest).toBe(512)
  await expect(keepsBits(shard)).resolves.toBeTypeOf('boolean')
  await shard.release()
})
