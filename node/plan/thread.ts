import { Worker } from 'node:worker_threads'
import { ScenarioError } from './errors.ts'
import { type PlanOptions, plan } from './index.ts'
import type { Plan, Refusal } from './problem.ts'
import { parseScenario, type ScenarioInput } from './scenario.ts'

export interface PlanRequest {
  id: number
  scenario: ScenarioInput
  options: Pick<PlanOptions, 'method' | 'budgetMs' | 'explain'>
}

/** What comes of a problem: only standard fields of an error cross threads, so a scenario's goes with its path. */
export type PlanReply =
  | { id: number; result: Plan | Refusal }
  | { id: number; error: Error; scenarioPath?: string }

/**
 * Most problems of no more devices and layers take 1 to 15 ms of a processor; what takes longer than the budget
 * goes to the thread, which takes 100 to 140 ms of a processor to start, and 30 MB.
 */
const SMALL_DEVICES = 4
const SMALL_LAYERS = 100
const SMALL_BUDGET_MS = 75

/**
 * The planner in a thread of its own: large meshes take it hundreds of milliseconds, in which the tokens of running
 * answers would wait. The thread starts with the first problem that wants it and keeps no process alive.
 */
export class PlanThread {
  readonly #smallHere: boolean
  #worker: Worker | undefined
  #count = 0
  readonly #pending = new Map<number, PromiseWithResolvers<Plan | Refusal>>()

  /** @param options `smallHere`: small problems are solved in the thread that asks while there is no other */
  constructor({ smallHere = false }: { smallHere?: boolean } = {}) {
    this.#smallHere = smallHere
  }

  /** Solves a scenario, without explanations unless they are asked for. @throws {ScenarioError} */
  async solve(scenario: ScenarioInput, options: PlanRequest['options'] = {}): Promise<Plan | Refusal> {
    // One device has nothing to search, and the start of a thread takes longer than the answer.
    // Explaining takes as long as solving, and whoever asks for it has time.
    const hasProcessors = scenario.devices.some(device => 'processors' in device)
    if (!hasProcessors && options.explain !== true) {
      if (scenario.devices.length === 1) return solveHere(scenario, options)
      const small = this.#solveSmall(scenario, options)
      if (small !== undefined) return small
    }
    const worker = (this.#worker ??= this.#start())
    const id = this.#count++
    // Throws where the scenario cannot be copied: nothing is pending then.
    worker.postMessage({ id, scenario, options } satisfies PlanRequest)
    const pending = Promise.withResolvers<Plan | Refusal>()
    this.#pending.set(id, pending)
    // Only while it has something to do.
    worker.ref()
    return await pending.promise
  }

  /** Starts the thread for a problem of so many devices that will come, where it will want it. */
  begin(devices: number): void {
    if (!this.#smallHere || devices > SMALL_DEVICES) this.#worker ??= this.#start()
  }

  async stop(): Promise<void> {
    const worker = this.#worker
    this.#end(new Error('the planner was stopped'))
    await worker?.terminate()
  }

  /** Solves a small problem here, unless the thread runs; undefined where the thread is to do it. */
  #solveSmall(scenario: ScenarioInput, options: PlanRequest['options']): Plan | Refusal | undefined {
    const { devices, model } = scenario
    if (!this.#smallHere || this.#worker !== undefined || devices.length > SMALL_DEVICES) return undefined
    if (model.layers.reduce((sum, { count = 1 }) => sum + count, 0) > SMALL_LAYERS) return undefined
    const startMs = performance.now()
    const budgetMs = Math.min(SMALL_BUDGET_MS, options.budgetMs ?? SMALL_BUDGET_MS)
    const solved = solveHere(scenario, { ...options, budgetMs })
    return performance.now() - startMs < budgetMs ? solved : undefined
  }

  #start(): Worker {
    // Published code is compiled: the worker's file has the extension that this one has.
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const worker = new Worker(new URL(`./plan-worker.${extension}`, import.meta.url), { execArgv: [] })
    worker.unref()
    worker.on('message', (reply: PlanReply) => this.#settle(reply))
    worker.on('error', error => this.#end(new Error(`the planner's thread crashed: ${error.message}`)))
    return worker
  }

  #settle(reply: PlanReply): void {
    const pending = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if (this.#pending.size === 0) this.#worker?.unref()
    if ('error' in reply) pending?.reject(errorOf(reply))
    else pending?.resolve(reply.result)
  }

  #end(error: Error): void {
    this.#worker = undefined
    for (const { reject } of this.#pending.values()) reject(error)
    this.#pending.clear()
  }
}

function errorOf({ error, scenarioPath: path }: Extract<PlanReply, { error: Error }>): Error {
  return path === undefined ? error : new ScenarioError(path, error.message.slice(path.length + 2))
}

/** Solves a scenario, without explanations unless they are asked for, in the thread that asks. @throws {ScenarioError} */
export function solveHere(scenario: ScenarioInput, options: PlanRequest['options']): Plan | Refusal {
  const now = () => performance.now()
  return plan(parseScenario(scenario), { explain: false, ...options, now })
}
