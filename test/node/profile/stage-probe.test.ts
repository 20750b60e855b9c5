import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRuntime } from '../../../models/runtime/client.ts'
import type { Runtime, Shard, ShardSession } from '../../../models/runtime/runtime.ts'
import { timeStage } from '../../../node/profile/stage-probe.ts'

let runtime: Runtime
let temporary: string
const { TMPDIR } = process.env
beforeAll(async () => {
  // The probe then writes where nothing else does.
  process.env.TMPDIR = temporary = await mkdtemp(join(tmpdir(), 'edgeshard-test-'))
  runtime = await startRuntime({ threads: 1 })
})
afterAll(async () => {
  await runtime.stop()
  await rm(temporary, { recursive: true })
  if (TMPDIR === undefined) delete process.env.TMPDIR
  else process.env.TMPDIR = TMPDIR
})

const signal = new AbortController().signal
/** A timer of Node.js may fire a millisecond early. */
const SLOW_MS = 6

/** The runtime, each of whose steps is handed over so much later. */
const slow: Pick<Runtime, 'load'> = {
  load: async (...args) => {
    const shard = await runtime.load(...args)
    const openBatch: Shard['openBatch'] = async options => {
      const batch = await shard.openBatch(options)
      const open = async (...args: Parameters<typeof batch.open>): Promise<ShardSession> => {
        const session = await batch.open(...args)
        const forward: ShardSession['forward'] = async step => {
          const output = await session.forward(step)
          await new Promise(resolve => setTimeout(resolve, SLOW_MS))
          return output
        }
        return {
          exact: session.exact,
          saved: session.saved,
          forward,
          trim: length => session.trim(length),
          close: () => session.close()
        }
      }
      return {
        open,
        decode: batch.decode.bind(batch),
        step: batch.step.bind(batch),
        close: () => batch.close()
      }
    }
    return { ...shard, openBatch, release: () => shard.release() }
  }
}

test('times what steps of a real stage take beside its layer, and leaves no file behind', async () => {
  const { turnMs, sharedTurnMs } = await timeStage(runtime, { signal })
  expect(turnMs).toBeGreaterThan(0)
  expect(sharedTurnMs).toBeGreaterThanOrEqual(0)
  expect(sharedTurnMs).toBeLessThanOrEqual(turnMs)
  expect(await readdir(temporary)).toEqual([])
})

test('the way to the thread and back is part of it, in steps that follow each other as well', async () => {
  const { turnMs, sharedTurnMs } = await timeStage(slow, { signal })
  expect(turnMs).toBeGreaterThan(SLOW_MS - 1)
  expect(sharedTurnMs).toBeGreaterThan(SLOW_MS - 1)
})

test('ends with what its caller ends it with', async () => {
  const stopping = new AbortController()
  const timing = timeStage(runtime, { signal: stopping.signal })
  stopping.abort(new Error('other work goes first'))
  await expect(timing).rejects.toThrow('other work goes first')
  expect(await readdir(temporary)).toEqual([])
})
