import { InferenceSession, Tensor } from 'onnxruntime-node'
import { InferenceError } from '../runtime/errors.ts'
import { encodeModel, type Graph } from './model.ts'

/**
 * The only file that imports ONNX Runtime. `run()` holds the thread until it is done, so this belongs in a worker.
 */
export { Tensor }

export interface OnnxOptions {
  /** Folder of the weight files that the graph's constants name, if they name any. */
  weightsDir?: string
  threading: Threading
  /** ONNX Runtime's name of what computes. @default 'cpu' */
  provider?: 'cpu' | 'webgpu'
  /** The outputs that `make` leaves where they are computed. @default none: they come to main memory */
  resident?: readonly string[]
}

/** How a run is spread over processors. */
export interface Threading {
  threads: number
  /**
   * Microseconds that a thread without work looks for more before it sleeps. Where no other program wants the processors,
   * 100 make a step of 1.1B parameters a tenth faster with two threads; where several nodes share them, any spinning
   * makes all of them slower, by a third and more.
   */
  spinUs: number
}

/** How the binding says, after a run, that it does not convert sequences. */
const SEQUENCE_REFUSED = 'Non tensor type is temporarily not supported'

/** A graph loaded with its weights. */
export class OnnxSession {
  readonly #name: string
  readonly #session: InferenceSession

  private constructor(name: string, session: InferenceSession) {
    this.#name = name
    this.#session = session
  }

  /** @throws {InferenceError} when ONNX Runtime refuses the graph or a weight file. */
  static async create(graph: Graph, options: OnnxOptions): Promise<OnnxSession> {
    const { weightsDir, threading, provider = 'cpu', resident } = options
    const locations = resident && Object.fromEntries(resident.map(name => [name, 'gpu-buffer'] as const))
    try {
      const session = await InferenceSession.create(encodeModel(graph), {
        // Never a list: where the first is missing ONNX Runtime refuses, and does not go on to the next.
        executionProviders: [provider],
        // Graphs are written as they are to run: all that the optimiser found in those of 25 families was an operator of small
        // numbers twice, and looking takes half of what a load takes beside its weights.
        graphOptimizationLevel: provider === 'cpu' ? 'disabled' : 'all',
        ...(locations && { preferredOutputLocation: locations }),
        intraOpNumThreads: threading.threads,
        interOpNumThreads: 1,
        logSeverityLevel: 3,
        // What the allocator is to keep for each shape of a run that it has seen, beside what it has kept already: with it,
        // prompts took twice the memory (test/bench/memory.ts), which a lease would have to cost.
        enableMemPattern: false,
        extra: {
          session: {
            ...(weightsDir === undefined ? {} : { model_external_initializers_file_folder_path: weightsDir }),
            intra_op: spinning(threading)
          }
        }
      })
      return new OnnxSession(graph.name, session)
    } catch (error) {
      throw failure(graph.name, 'cannot be loaded', error)
    }
  }

  /**
   * Runs the graph on `feeds` into the preallocated `fetches`.
   *
   * The binding copies every output into a new ArrayBuffer after the run, also one that was preallocated
   * (OrtValueToNapiValue in its tensor_helper.cc): of a KV cache that is all of it in every step. It does so in the
   * order of the outputs and gives up at a sequence, which it cannot convert. So the graph's first output is one, asked
   * for in every run: the outputs are in our memory by then, and nothing is copied. A binding that could convert
   * sequences would copy again and be slower, not wrong.
   */
  async run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor | null>): Promise<void> {
    try {
      await this.#session.run(feeds, fetches)
    } catch (error) {
      if (error instanceof Error && error.message.startsWith(SEQUENCE_REFUSED)) return
      throw failure(this.#name, 'failed in a run', error)
    }
  }

  /** Runs the graph on `feeds` into new tensors, by the names of its outputs; not for graphs of shards. */
  async make(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    try {
      return await this.#session.run(feeds)
    } catch (error) {
      throw failure(this.#name, 'failed in a run', error)
    }
  }

  async release(): Promise<void> {
    await this.#session.release()
  }
}

function spinning({ spinUs }: Threading): Record<string, string> {
  return spinUs > 0 ? { allow_spinning: '1', spin_duration_us: `${spinUs}` } : { allow_spinning: '0' }
}

function failure(name: string, what: string, error: unknown): InferenceError {
  return new InferenceError(`${name} ${what}: ${error instanceof Error ? error.message : String(error)}`)
}
