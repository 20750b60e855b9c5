/**
 * Measures a running mesh with the paper's workload: every method, both objectives, both pipeline strategies, several
 * batch sizes, each row beside what the cost model predicts for the plan that ran.
 *
 * @packageDocumentation
 */
import { randomUUID } from 'node:crypto'
import { messageOf } from '../../protocols/text.ts'
import type { GenerateRequest, MeshState, Objective } from '../api.ts'
import { errorCodeOf } from '../error-codes.ts'
import type { Problem } from '../plan/problem.ts'
import { shortNames, withNames } from '../short-names.ts'
import { VERSION } from '../version.ts'
import { casesOf } from './cases.ts'
import { fastestPeer, largestBatch, problemOf, refusalOf } from './prediction.ts'
import { measureRound, type Round, settle, warmUp } from './round.ts'
import { rowOf } from './row.ts'
import type { BenchApi, BenchCase, BenchDevice, BenchOptions, BenchReport, BenchRow } from './types.ts'
import { cutPrompts } from './workload.ts'

/** A device was named that is not in the mesh, or not alone in being called so. */
export class UnknownDeviceError extends Error {
  override readonly name = 'UnknownDeviceError'
  readonly code = 'device_unknown'
}

export interface BenchRun {
  signal: AbortSignal
  /** Before each row, and with it when it is measured. */
  onRow?: (asked: BenchCase, row?: BenchRow) => void
}

/**
 * @throws {UnknownDeviceError} {ShortTextError}; rows that cannot be measured do not throw but say why
 */
export async function bench(
  api: BenchApi,
  options: BenchOptions,
  { signal, onRow }: BenchRun
): Promise<BenchReport> {
  const { model, promptTokens, newTokens, repeats, seed } = options
  const scenario = (objective: Objective) =>
    api.scenario({ ...(model !== undefined && { model }), promptTokens, newTokens, objective })
  const first = await scenario('latency')
  const cloud =
    options.cloud === undefined ? fastestPeer(first) : deviceCalled(await api.mesh(), options.cloud)
  const prompts = new Prompts(api, options)
  const rows: BenchRow[] = []
  for (const asked of casesOf(options)) {
    signal.throwIfAborted()
    onRow?.(asked)
    const mesh = await api.mesh()
    const problemNow = async () => problemOf(await scenario(asked.objective), await api.mesh(), cloud)
    const row = named(await measureRow({ api, options, cloud, problemNow, prompts, signal }, asked), mesh)
    rows.push(row)
    onRow?.(asked, row)
  }
  const mesh = await api.mesh()
  const decodeMs = (peerId: string) => first.profiles[peerId]?.decoder?.decodeMs ?? null
  return {
    version: VERSION,
    model: first.model.name,
    workload: { promptTokens, newTokens, repeats, seed },
    source: mesh.self.peerId,
    cloud,
    devices: [mesh.self, ...mesh.peers].map(({ peerId, name, hardware, memory }): BenchDevice => {
      return {
        peerId,
        name,
        cpu: hardware.cpu,
        budgetBytes: memory.budgetBytes,
        decodeMs: decodeMs(peerId)
      }
    }),
    links: mesh.links,
    rows
  }
}

/** A planner knows devices by their ids; people know them by their names. */
function named(row: BenchRow, { self, peers }: MeshState): BenchRow {
  if (row.outcome === 'measured') return row
  return { ...row, reason: withNames(row.reason, shortNames([self, ...peers])) }
}

interface Bench {
  api: BenchApi
  options: BenchOptions
  cloud: string | null
  /** The mesh as the planner sees it now. */
  problemNow: () => Promise<Problem>
  prompts: Prompts
  signal: AbortSignal
}

async function measureRow(run: Bench, asked: BenchCase): Promise<BenchRow> {
  const { method } = asked
  const problem = await run.problemNow()
  const smallest = asked.batch === 'max' ? 1 : asked.batch
  const reason = refusalOf(problem, method, smallest)
  if (reason !== undefined) return { ...asked, outcome: 'infeasible', reason }
  if (asked.batch !== 'max') return await measureBatch(run, asked, asked.batch)
  // What a stage works in is not among what layers take, so that the most may be some too many.
  let row: BenchRow | undefined
  for (let batch = largestBatch(problem, method); batch > 0 && row?.outcome !== 'measured'; batch--) {
    row = await measureBatch(run, asked, batch)
    if (row.outcome === 'failed') break
  }
  return row!
}

async function measureBatch(run: Bench, asked: BenchCase, batch: number): Promise<BenchRow> {
  const { api, options, prompts, signal } = run
  const { method } = asked
  let problem = await run.problemNow()
  const requests = async () =>
    (await prompts.take(batch)).map(text => requestFor(run, asked, { text, batch }))
  try {
    await warmUp(api, await requests(), signal)
    if (method === 'edgeshard' && options.settle !== undefined && options.settle > 0) {
      const placementOf = async (round: Round) => {
        const { plan } = round.results[0]!
        return JSON.stringify([plan, await microBatchesOf(api, asked.objective, round)])
      }
      await settle(api, await requests(), { rounds: options.settle, placementOf }, signal)
      problem = await run.problemNow()
    }
    const rounds: Round[] = []
    for (let i = 0; i < options.repeats; i++) {
      rounds.push(await measureRound(api, await requests(), signal))
    }
    const microBatches = await microBatchesOf(api, asked.objective, rounds[0]!)
    return rowOf({ asked, batch, rounds, microBatches, problem })
  } catch (error) {
    signal.throwIfAborted()
    const outcome = errorCodeOf(error) === 'infeasible' ? 'infeasible' : 'failed'
    return { ...asked, outcome, reason: messageOf(error) }
  }
}

/** One that is gone already was given up by its peers; how it was cut is not known any more. */
async function microBatchesOf(api: BenchApi, asked: Objective, { results }: Round): Promise<number> {
  const { deployments } = await api.mesh()
  const ran = JSON.stringify(results[0]!.plan)
  const deployment = deployments.find(
    ({ objective, plan }) => objective === asked && JSON.stringify(plan) === ran
  )
  return deployment?.microBatches ?? 1
}

function requestFor(
  { options, cloud }: Bench,
  { objective, method, strategy }: BenchCase,
  { text, batch }: { text: string; batch: number }
): GenerateRequest {
  const { model, newTokens, privacy, seed, microBatches, speculate, draft } = options
  return {
    ...(model !== undefined && { model }),
    input: { kind: 'raw', text },
    maxTokens: newTokens,
    temperature: 0,
    seed,
    ignoreEos: true,
    objective,
    privacy,
    ...(speculate !== undefined && { speculate }),
    ...(draft !== undefined && { draft }),
    // No other request's KV cache, whatever was asked before.
    conversation: randomUUID(),
    placement: {
      method,
      ...(cloud !== null && { cloud }),
      ...(objective === 'throughput' && { batch, ...(microBatches !== undefined && { microBatches }) }),
      ...(strategy !== null && { strategy })
    }
  }
}

/** Prompts of the workload's length, cut as they are needed. */
class Prompts {
  readonly #api: BenchApi
  readonly #options: BenchOptions
  #cut: string[] = []

  constructor(api: BenchApi, options: BenchOptions) {
    this.#api = api
    this.#options = options
  }

  async take(prompts: number): Promise<string[]> {
    if (this.#cut.length < prompts) {
      const { text, promptTokens, seed } = this.#options
      const countTokens = (part: string) => this.#api.countTokens(part)
      this.#cut = await cutPrompts(text, { promptTokens, prompts, seed, countTokens })
    }
    return this.#cut.slice(0, prompts)
  }
}

function deviceCalled({ self, peers }: MeshState, asked: string): string {
  const found = [self, ...peers].filter(({ peerId, name }) => peerId === asked || name === asked)
  if (found.length === 1) return found[0]!.peerId
  throw new UnknownDeviceError(
    found.length === 0
      ? `no device of the mesh is called ${asked}`
      : `${found.length} devices of the mesh are called ${asked}: give a peer id`
  )
}
