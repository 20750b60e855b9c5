import type { Graph } from '../onnx/model.ts'
import type { OnnxSession, Tensor } from '../onnx/session.ts'
import { HIDDEN, INPUT, NO_COPY } from '../onnx/shard-graph.ts'
import { mainTensor, type Processor } from './processor.ts'

interface Link {
  session: OnnxSession
  inputs: string[]
  outputs: string[]
}

/** Sessions of neighbouring ranges that run one behind the other in this thread, as one. */
export class SessionChain {
  readonly #links: readonly Link[]
  readonly #hiddenSize: number
  /** Hidden states between two of them: what one reads, the other one writes. */
  readonly #between = [new Float32Array(0), new Float32Array(0)]

  private constructor(links: readonly Link[], hiddenSize: number) {
    this.#links = links
    this.#hiddenSize = hiddenSize
  }

  /** @throws {InferenceError} when ONNX Runtime refuses a graph or a weight file. */
  static async create(
    processor: Processor,
    graphs: readonly Graph[],
    hiddenSize: number,
    weightsDir: string
  ): Promise<SessionChain> {
    const links: Link[] = []
    try {
      for (const graph of graphs) {
        const session = await processor.load(graph, weightsDir)
        const [inputs, outputs] = [graph.inputs, graph.outputs].map(values => values.map(({ name }) => name))
        links.push({ session, inputs: inputs!, outputs: outputs! })
      }
      return new SessionChain(links, hiddenSize)
    } catch (error) {
      for (const { session } of links) await session.release()
      throw error
    }
  }

  /** Runs all of them on `feeds` into the preallocated `fetches`, as a graph of the whole range would. */
  async run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor | null>): Promise<void> {
    let input = feeds[INPUT]!
    for (const [at, { session, inputs, outputs }] of this.#links.entries()) {
      if (this.#links.length === 1) return await session.run(feeds, fetches)
      const own: Record<string, Tensor> = { ...only(feeds, inputs), [INPUT]: input }
      const results: Record<string, Tensor | null> = { [NO_COPY]: null, ...only(fetches, outputs) }
      if (at < this.#links.length - 1) results[HIDDEN] = this.#hidden(at % 2, input)
      await session.run(own, results)
      input = results[HIDDEN] ?? input
    }
  }

  /** Room for what comes out of a session whose input is this. */
  #hidden(buffer: number, { dims: [batch = 1, tokens = 1] }: Tensor): Tensor {
    const size = batch * tokens * this.#hiddenSize
    if (this.#between[buffer]!.length < size) this.#between[buffer] = new Float32Array(size)
    const data = this.#between[buffer]!.subarray(0, size)
    return mainTensor(data, [batch, tokens, this.#hiddenSize])
  }

  async release(): Promise<void> {
    for (const { session } of this.#links) await session.release()
  }
}

function only<T>(all: Record<string, T>, names: readonly string[]): Record<string, T> {
  return Object.fromEntries(names.flatMap(name => (name in all ? [[name, all[name]!]] : [])))
}
