import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { logger } from '../../models/log.ts'
import type { ModelShape, Quantization } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { GpuRuntime } from '../../models/runtime/gpu-runtime.ts'
import { allocateHidden, PREFILL_CHUNK_TOKENS } from '../../models/runtime/hidden.ts'
import { randomManifest, writeRandomLayer } from '../../models/runtime/random-weights.ts'
import type { HiddenStates, Runtime, Shard, ShardSession } from '../../models/runtime/runtime.ts'
import { messageOf } from '../../protocols/text.ts'
import { type Findings, judge, type Work, worstRatio } from './verdict.ts'

export interface ProbeInit {
  shape: ModelShape
  quantization?: Quantization | undefined
  /** Threads that the CPU computes with. */
  threads: number
  /** A probe that takes longer is ended, and finds for the CPU. */
  withinMs: number
  /** A GPU that says nothing for so long hangs. */
  silenceMs: number
  /** The most memory that is worth asking for. */
  mostBytes: number
  signal?: AbortSignal
}

const log = logger('edgeshard:node')

const BATCH = 8
const RUNS = 5
const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
/** A GPU that is so many times slower is not looked at any longer: a software adapter takes minutes for the rest. */
const HOPELESS = 4

/** A layer and the head of a model, loaded on one processor. */
interface Loaded {
  decoder: Shard
  head: Shard
}

/**
 * Tries the GPU of this device, in a process that is for nothing else, with one decoder layer and the head of a shape and
 * random weights: whether it computes what the CPU does, how fast each is, and what memory it gives. Whatever the driver
 * does comes out as a verdict.
 */
export async function probeGpu(init: ProbeInit): Promise<Findings> {
  const { threads, silenceMs, withinMs, signal } = init
  const findings: Findings = { times: [] }
  let crash: string | undefined
  const gpu = new GpuRuntime({
    silenceMs,
    onCrash: reason => {
      crash = reason
    }
  })
  const cpu = await startRuntime({ threads })
  const dir = await mkdtemp(join(tmpdir(), 'edgeshard-gpu-')).catch(async error => {
    await cpu.stop()
    throw error
  })
  const late = Promise.withResolvers<never>()
  const giveUp = (reason: unknown) => late.reject(reason)
  const timer = setTimeout(() => giveUp(new Error(`it was not done within ${withinMs / 1000} s`)), withinMs)
  const onAbort = () => giveUp(signal?.reason)
  signal?.addEventListener('abort', onAbort, { once: true })
  let looking: Promise<void> | undefined
  try {
    // What was aborted while all that was started says so to nobody.
    signal?.throwIfAborted()
    looking = look(init, { cpu, gpu, dir }, findings)
    await Promise.race([late.promise, looking])
  } catch (error) {
    signal?.throwIfAborted()
    findings.failure = crash === undefined ? messageOf(error) : `its process ended (${crash})`
    findings.crashed = crash !== undefined
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
    await Promise.all([cpu.stop(), gpu.kill()])
    // It may be writing into the folder still, and fails at what it does next.
    await looking?.catch(
      log.passOver('trying the GPU has ended before; its findings are what was found until then')
    )
    await rm(dir, { recursive: true, force: true })
  }
  return findings
}

async function look(
  { shape, quantization, mostBytes }: ProbeInit,
  { cpu, gpu, dir }: { cpu: Runtime; gpu: GpuRuntime; dir: string },
  findings: Findings
): Promise<void> {
  const manifest = randomManifest({ ...shape, layout: [0], decoderLayers: 1 }, quantization)
  for (const file of manifest.layers.slice(1)) await writeRandomLayer(file, dir)
  const load = async (runtime: Pick<Runtime, 'load'>): Promise<Loaded> => ({
    decoder: await runtime.load({ manifest, range: [1, 2], blobsDir: dir }),
    head: await runtime.load({ manifest, range: [2, 3], blobsDir: dir })
  })
  const here = await load(cpu)
  await gpu.start()
  const there = await load(gpu)
  const chunk = Math.min(PREFILL_CHUNK_TOKENS, shape.contextLength - RUNS - 2)

  const one = await Steps.open(here.decoder, chunk)
  const other = await Steps.open(there.decoder, chunk)
  const difference = Math.max(
    differenceOf(await one.prefill(), await other.prefill()),
    differenceOf(await one.decode(), await other.decode())
  )
  findings.difference = difference
  const time = async (
    kind: 'decoder' | 'head',
    work: Work,
    run: (of: Loaded) => Promise<() => Promise<unknown>>
  ) => {
    const cpuMs = await fastest(await run(here))
    const gpuMs = await fastest(await run(there))
    findings.times.push({ kind, work, cpuMs, gpuMs })
  }
  await time('decoder', 'decode', async of => {
    const steps = of === here ? one : other
    return () => steps.decode()
  })
  if (worstRatio(findings.times) < 1 / HOPELESS) return
  await time('decoder', 'prefill', async of => {
    const steps = of === here ? one : other
    return () => steps.prefill()
  })
  await time('decoder', 'batch', of => batchOf(of.decoder, chunk))
  await time('head', 'decode', async ({ head }) => {
    const session = await head.open({ maxTokens: 4096, sampling: GREEDY })
    const input = hiddenOf(shape, 1)
    return () => session.forward({ position: 0, input, sample: true }).then(() => session.trim(0))
  })
  const exact = await there.decoder.open({ maxTokens: chunk, exact: true })
  findings.keepsBits = exact.exact
  if (judge(findings, shape.decoderLayers).use === 'gpu') {
    findings.allocatableBytes = await gpu.allocatable(mostBytes)
  }
}

/** One sequence on one decoder layer: its prompt is one chunk, and each token of it goes behind that. */
class Steps {
  readonly #session: ShardSession
  readonly #chunk: HiddenStates
  readonly #token: HiddenStates

  private constructor(session: ShardSession, chunk: HiddenStates, token: HiddenStates) {
    this.#session = session
    this.#chunk = chunk
    this.#token = token
  }

  static async open(shard: Shard, chunk: number): Promise<Steps> {
    const { shape } = shard.manifest
    const session = await shard.open({ maxTokens: chunk + 1 })
    return new Steps(session, hiddenOf(shape, chunk), hiddenOf(shape, 1))
  }

  async prefill(): Promise<Float32Array> {
    await this.#session.trim(0)
    return await this.#step(0, this.#chunk)
  }

  async decode(): Promise<Float32Array> {
    await this.#session.trim(this.#chunk.tokens)
    return await this.#step(this.#chunk.tokens, this.#token)
  }

  async #step(position: number, input: HiddenStates): Promise<Float32Array> {
    const output = await this.#session.forward({ position, input, sample: true })
    if (output.kind !== 'hidden') throw new Error('a decoder layer has given no hidden states')
    return Float32Array.from(output.hidden.data)
  }
}

async function batchOf(shard: Shard, chunk: number): Promise<() => Promise<unknown>> {
  const { shape } = shard.manifest
  const batch = await shard.openBatch({ slots: BATCH, maxTokens: chunk + 1 })
  const sessions: ShardSession[] = []
  for (let i = 0; i < BATCH; i++) {
    const session = await batch.open()
    await session.forward({ position: 0, input: hiddenOf(shape, chunk), sample: false })
    sessions.push(session)
  }
  const positions = sessions.map(() => chunk)
  return () => batch.decode(sessions, { positions, input: hiddenOf(shape, BATCH) })
}

/** The shortest of some runs behind a first one, which compiles shaders: what disturbs only ever makes one longer. */
async function fastest(run: () => Promise<unknown>): Promise<number> {
  await run()
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < RUNS; i++) {
    const startMs = performance.now()
    await run()
    least = Math.min(least, performance.now() - startMs)
  }
  return least
}

/** Hidden states of ordinary size, the same on every processor. */
function hiddenOf({ hiddenSize }: ModelShape, tokens: number): HiddenStates {
  const hidden = allocateHidden(tokens, hiddenSize)
  hidden.data.forEach((_, i) => {
    hidden.data[i] = Math.sin(i)
  })
  return hidden
}

/** The largest difference, relative to the largest number; infinite where some are no numbers. */
function differenceOf(one: Float32Array, other: Float32Array): number {
  let apart = 0
  let largest = 0
  one.forEach((x, i) => {
    apart = Math.max(apart, Math.abs(x - other[i]!))
    largest = Math.max(largest, Math.abs(x))
    if (!Number.isFinite(other[i]!)) apart = Number.POSITIVE_INFINITY
  })
  return apart / largest
}
