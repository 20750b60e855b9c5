/**
 * What each optimisation of a step gains: a model with one of them off, in turns with one that has them all.
 *
 *     node test/bench/ablation.ts decode THREADS DIR    prints the median step alone: for what only a process decides
 */
import { fileURLToPath } from 'node:url'
import Table from 'cli-table3'
import type { Threading } from '../../models/onnx/session.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { withHugePages, withoutHugePages } from './allocation.ts'
import { copiedOutputs, floatInside, separateProjections } from './graph-variants.ts'
import { OWN, Q4_0, randomModel, SHAPE } from './runtime-models.ts'
import { quantile } from './statistics.ts'
import { StepProbe, type StepProbeInit } from './step-probe.ts'

const CONTEXT = 512
const PROMPT = 32
const ROUNDS = 8
const STEPS = 8
const LAYERS = SHAPE.decoderLayers + 2

interface Variant {
  name: string
  init?: Partial<StepProbeInit>
  threading?: Partial<Threading>
  /** Blocks of 32, from files of their own. */
  blocksOf32?: boolean
  /** Tokens of the prompt that one run takes. */
  chunk?: number
  /** Every row of the prompt reaches the head. */
  allRows?: boolean
}

const VARIANTS: Variant[] = [
  { name: 'nothing (how far two equal models differ)' },
  { name: 'blocks of 128: blocks of 32', blocksOf32: true },
  { name: '8-bit integers inside: float32', init: { change: floatInside } },
  { name: 'one product for q, k, v, one for gate, up: five', init: { change: separateProjections } },
  { name: 'outputs in our memory: copied', init: { change: copiedOutputs } },
  { name: 'one session: one a layer', init: { cuts: Array.from({ length: LAYERS - 1 }, (_, i) => i + 1) } },
  { name: 'no spinning: 100 us', threading: { spinUs: 100 } },
  { name: 'as many threads as asked for: one', threading: { threads: 1 } },
  { name: 'head on the last row: on every row', allRows: true },
  { name: 'prompt in one run: in runs of 8', chunk: 8 }
]

interface Times {
  decode: number[]
  prefill: number[]
}

/** Prints a table: speed with one optimisation off, all on being 1. */
export async function ablation(threads: number): Promise<void> {
  await using own = await randomModel('', OWN)
  await using wide = await randomModel('', Q4_0)
  const init = (variant: Variant): StepProbeInit => {
    const { manifest, blobsDir } = variant.blocksOf32 ? wide : own
    const threading = { threads, spinUs: 0, ...variant.threading }
    return { manifest, weightsDir: blobsDir, threading, context: CONTEXT, ...variant.init }
  }
  const head = [
    `optimisation: without it (${threads} threads)`,
    'decode',
    'decode, best tenth',
    `prefill ${PROMPT}`
  ]
  const table = new Table({ head, style: { head: [], border: [] } })
  const all = await StepProbe.load(init({ name: 'all' }))
  for (const variant of VARIANTS) {
    const probe = await StepProbe.load(init(variant))
    table.push([variant.name, ...(await compare(all, probe, variant))])
    await probe.release()
  }
  await all.release()
  table.push(['weights in huge pages: small pages', ...hugePages(threads, own.blobsDir)])
  console.log(table.toString())
}

async function compare(all: StepProbe, probe: StepProbe, variant: Variant): Promise<string[]> {
  const on: Times = { decode: [], prefill: [] }
  const off: Times = { decode: [], prefill: [] }
  await time(all, {}, { decode: [], prefill: [] })
  await time(probe, variant, { decode: [], prefill: [] })
  for (let round = 0; round < ROUNDS; round++) {
    // The one that comes second has the warmer machine.
    const turns = [() => time(all, {}, on), () => time(probe, variant, off)]
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn()
  }
  const ratio = (part: keyof Times, q: number) => (quantile(on[part], q) / quantile(off[part], q)).toFixed(2)
  return [ratio('decode', 0.5), ratio('decode', 0.1), ratio('prefill', 0.5)]
}

async function time(
  probe: StepProbe,
  { chunk = PROMPT, allRows = false }: Omit<Variant, 'name'>,
  { decode, prefill }: Times
): Promise<void> {
  let ms = 0
  for (let start = 0; start < PROMPT; start += chunk) {
    const last = start + chunk === PROMPT
    ms += await probe.step(start, chunk, allRows ? chunk : last ? 1 : 0)
  }
  prefill.push(ms)
  for (let i = 0; i < STEPS; i++) decode.push(await probe.step(PROMPT + i, 1))
}

/** glibc decides at a process's start, so each side is one. */
function hugePages(threads: number, blobsDir: string): string[] {
  const args = [fileURLToPath(import.meta.url), 'decode', `${threads}`, blobsDir]
  const on: number[] = []
  const off: number[] = []
  for (let round = 0; round < 3; round++) {
    on.push(Number(withHugePages(args)))
    off.push(Number(withoutHugePages(args)))
  }
  return [(quantile(on, 0.5) / quantile(off, 0.5)).toFixed(2), '', '']
}

async function decodeAlone(threads: number, weightsDir: string): Promise<void> {
  process.env.ORT_DISABLE_TELEMETRY = '1'
  const manifest = randomManifest(SHAPE, OWN)
  const threading = { threads, spinUs: 0 }
  const probe = await StepProbe.load({ manifest, weightsDir, threading, context: CONTEXT })
  const times: Times = { decode: [], prefill: [] }
  for (let round = 0; round < ROUNDS; round++) await time(probe, {}, times)
  console.log(quantile(times.decode, 0.5))
}

const [script, mode, threads, dir] = process.argv.slice(1)
if (script === fileURLToPath(import.meta.url) && mode === 'decode') await decodeAlone(Number(threads), dir!)
