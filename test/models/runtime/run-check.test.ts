import { expect, test } from 'vitest'
import type { Graph } from '../../../models/onnx/model.ts'
import type { OnnxSession } from '../../../models/onnx/session.ts'
import { HIDDEN, INPUT, NORMED } from '../../../models/onnx/shard-graph.ts'
import { Calls } from '../../../models/runtime/calls.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { fromPlain } from '../../../models/runtime/errors.ts'
import type { RuntimeLink } from '../../../models/runtime/link.ts'
import type { Answers, Call, Reply } from '../../../models/runtime/messages.ts'
import type { Processor } from '../../../models/runtime/processor.ts'
import { WorkerShard } from '../../../models/runtime/shard-client.ts'
import { warmUp } from '../../../models/runtime/warm-up.ts'
import { randomModel } from '../../fixtures/random-model.ts'

/** Computes runs of so many rows, or more, wrongly. */
class WrongProcessor extends CpuProcessor {
  override readonly mostTokens: number
  readonly #wrongRows: number

  constructor(mostTokens: number, wrongRows: number) {
    super({ threads: 1, spinUs: 0 })
    this.mostTokens = mostTokens
    this.#wrongRows = wrongRows
  }

  override async load(graph: Graph, weightsDir: string): Promise<OnnxSession> {
    const session = await super.load(graph, weightsDir)
    const run = session.run.bind(session)
    session.run = async (feeds, fetches) => {
      await run(feeds, fetches)
      if (feeds[INPUT]!.dims[1]! < this.#wrongRows) return
      for (const name of [HIDDEN, NORMED]) {
        const output = fetches[name]?.data
        if (output instanceof Float32Array)
          output.forEach((x, i) => void (output[i] = x * (1 + 0.1 * (i % 2))))
      }
    }
    return session
  }
}

/** Answers in this thread. */
class Link implements RuntimeLink {
  readonly online = Promise.resolve()
  readonly ended = undefined
  readonly watchers = new Set<(ended: Error) => void>()
  readonly #calls: Calls
  readonly #asked = new Map<number, (reply: Reply) => void>()
  #id = 0

  constructor(processor: Processor) {
    this.#calls = new Calls(processor, reply => this.#asked.get(reply.id)?.(reply))
  }

  async call<C extends Call>(call: C): Promise<Answers[C['op']]> {
    const id = this.nextId()
    const reply = await new Promise<Reply>(resolve => {
      this.#asked.set(id, resolve)
      this.#calls.take({ ...call, id })
    })
    if (!reply.ok) throw fromPlain(reply.error)
    return reply.value as Answers[C['op']]
  }

  nextId(): number {
    return this.#id++
  }

  async stop(): Promise<void> {
    await this.call({ op: 'stop' })
  }
}

const RANGES = [
  [0, 5],
  [0, 3],
  [1, 3],
  [3, 5]
] as const

test.each(RANGES)(
  'a load of layers [%d, %d) is refused where long runs come to something else',
  async (...range) => {
    await using model = await randomModel()
    const { manifest, blobsDir } = model
    const warmedUp = async (processor: Processor) => {
      const link = new Link(processor)
      await link.call({ op: 'load', shard: 1000, spec: { manifest, range: [...range], blobsDir } })
      const shard = new WorkerShard(link, 1000, { manifest, range: [...range] }, async () => undefined)
      await warmUp(shard).finally(() => shard.release())
    }
    await expect(warmedUp(new WrongProcessor(Infinity, 32))).rejects.toMatchObject({
      code: 'inference_failed',
      message: expect.stringMatching(
        /^32 tokens in one step and in steps of 4 differ by \d+\.\d %: layers are not computed rightly here$/
      )
    })
    // As they are computed where runs are kept short enough.
    await warmedUp(new WrongProcessor(16, 32))
    await expect(warmedUp(new WrongProcessor(16, 16))).rejects.toThrow('not computed rightly')
  }
)
