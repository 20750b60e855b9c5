import { turnings } from '../../models/blocks.ts'
import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import type { Graph } from '../../models/onnx/model.ts'
import { OnnxSession, Tensor, type Threading } from '../../models/onnx/session.ts'
import { HIDDEN, INPUT, NO_COPY, shardGraph } from '../../models/onnx/shard-graph.ts'
import { CpuProcessor } from '../../models/runtime/cpu-processor.ts'
import { HeadBuffers } from '../../models/runtime/head-buffers.ts'
import { KvCache } from '../../models/runtime/kv-cache.ts'
import { rotaryTable } from '../../models/runtime/rotary.ts'
import { SlotTensors } from '../../models/runtime/slot-tensors.ts'

export interface StepProbeInit {
  manifest: Manifest
  weightsDir: string
  threading: Threading
  /** Tokens that the KV cache has room for. */
  context: number
  /** Where the model is cut into sessions. @default nowhere */
  cuts?: number[]
  /** What is changed of a graph. @default nothing */
  change?: (graph: Graph, manifest: Manifest) => Graph
}

interface Stage {
  session: OnnxSession
  tensors: SlotTensors
}

/** A whole model, run in this thread as a sequence runs it, so that a bench can time changed graphs. */
export class StepProbe {
  readonly #stages: Stage[]
  readonly #manifest: Manifest
  readonly #head: HeadBuffers

  private constructor(manifest: Manifest, stages: Stage[], context: number) {
    this.#manifest = manifest
    this.#stages = stages
    this.#head = new HeadBuffers(manifest.shape.vocabSize, context)
  }

  static async load(init: StepProbeInit): Promise<StepProbe> {
    const { manifest, context, cuts = [], change = graph => graph } = init
    const { shape } = manifest
    const { cos, sin } = rotaryTable(turnings(shape)[0]!, context)
    const dims = [context, shape.headSize / 2]
    const rotary = { cos: new Tensor('float32', cos, dims), sin: new Tensor('float32', sin, dims) }
    const edges = [0, ...cuts, manifest.layers.length]
    const stages: Stage[] = []
    for (let i = 0; i + 1 < edges.length; i++) {
      const range: LayerRange = [edges[i]!, edges[i + 1]!]
      const graph = change(shardGraph(manifest, range), manifest)
      const session = await OnnxSession.create(graph, init)
      const cache = await KvCache.allocate(new CpuProcessor(init.threading), shape, range, context)
      const tensors = new SlotTensors(
        { manifest, rotary: () => rotary, unusedLanes: {}, grouped: undefined },
        cache,
        [0, 1]
      )
      if (!graph.outputs.some(({ name }) => name === NO_COPY)) delete tensors.fetches[NO_COPY]
      stages.push({ session, tensors })
    }
    return new StepProbe(manifest, stages, context)
  }

  /** Milliseconds of a step of `tokens` tokens at `position`, of which the last `sampled` reach the head. */
  async step(position: number, tokens: number, sampled = 1): Promise<number> {
    const { vocabSize, hiddenSize } = this.#manifest.shape
    const ids = Int32Array.from({ length: tokens }, (_, i) => (position + i * 97) % vocabSize)
    const rows = Array.from({ length: sampled }, (_, i) => tokens - sampled + i)
    const start = performance.now()
    let input = new Tensor('int32', ids, [1, tokens]) as Tensor
    for (const [i, { session, tensors }] of this.#stages.entries()) {
      tensors.feeds[INPUT] = input
      tensors.place([position], tokens)
      if (i === this.#stages.length - 1) this.#head.select(tensors, rows)
      else {
        input = new Tensor('float32', new Float32Array(tokens * hiddenSize), [1, tokens, hiddenSize])
        tensors.fetches[HIDDEN] = input
      }
      await session.run(tensors.feeds, tensors.fetches)
    }
    return performance.now() - start
  }

  async release(): Promise<void> {
    for (const { session } of this.#stages) await session.release()
  }
}
