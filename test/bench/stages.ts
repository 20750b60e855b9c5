/**
 * A 1.1B model at 4 bits over two and three devices with one thread each: ms a token against computing, transfers and
 * delays, beside what others take for the same row; and how long a prompt of many chunks takes to its first token, beside
 * the one device that computes all of it.
 *
 *     npm run bench:stages -- TOOL [--quantize q4] [--devices N]   (2 and 3 devices by default)
 *
 * TOOL is a Python program that writes the model: `TOOL OUT.gguf`, with random weights in the shape of TinyLlama 1.1B at
 * Q4_0. `--quantize q4` rounds them to the project's own 4 bits (blocks of 128) on import. Needs Linux, the right to
 * make namespaces, Python with numpy, 4 GiB of disk, and a machine with little else to do.
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { importModel } from '../../models/import/import-model.ts'
import type { Manifest } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateResult } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { until } from '../fixtures/nodes.ts'
import { shareBytes } from '../fixtures/stored-model.ts'
import { Lab } from '../lab/lab.ts'
import { members } from '../lab/members.ts'
import { labProblem } from '../lab/permitted.ts'

const LINKS = [
  { name: '0.25 ms, 1 Gbps', mbps: 1000, latencyMs: 0.25 },
  { name: '5 ms, 50 Mbps', mbps: 50, latencyMs: 5 },
  { name: '10 ms, 50 Mbps', mbps: 50, latencyMs: 10 }
]
/**
 * Others' ms a token over the same links with one thread a process: their best configuration and every other one, as
 * measured on one machine in August 2026 (llama.cpp, prima.cpp, distributed-llama; 4 bits in blocks of 32). There
 * llama.cpp alone took 25.7 ms.
 */
const OTHERS_ALONE_MS = 25.7
const OTHERS: Record<number, { name: string; ms: (number | undefined)[] }[]> = {
  2: [
    { name: 'llama.cpp, client + 2 servers', ms: [43.2, 88.3, 105] },
    { name: 'llama.cpp, half + 1 server', ms: [34.9, 65.8, 78.4] },
    { name: 'llama.cpp, half and head + 1 server', ms: [undefined, 52.9, 59.6] },
    { name: 'prima.cpp, ring of 2', ms: [37.2, 50.6, 63.8] },
    { name: 'distributed-llama, 2 nodes', ms: [49.7, 290, 522] }
  ],
  3: [
    { name: 'llama.cpp, client + 3 servers', ms: [41.9, 99.1, 129] },
    { name: 'llama.cpp, a third + 2 servers', ms: [undefined, 84.9, 103] },
    { name: 'prima.cpp, ring of 3', ms: [41.0, 60.1, 75.5] }
  ]
}
/** Share of the model that each device holds, so that it takes so many of them. */
const SHARES: Record<number, number> = { 1: 2, 2: 0.56, 3: 0.44 }
const NAMES = ['a', 'b', 'c']
const TOKENS = 48
/** Several chunks, so that they can follow each other through the stages. */
const LONG_PROMPT = 'a few words to begin with '.repeat(40)
const ROUNDS = 3
const TOKEN_BYTES = 8

const say = (line: string) => process.stdout.write(`${line}\n`)
const run = promisify(execFile)
const wire = ({ mbps, latencyMs }: { mbps: number; latencyMs: number }) => ({ mbps, latencyMs })

interface Found {
  /** Answers to the short prompt, one for each of the links. */
  answers: GenerateResult[]
  /** Time to the first token of the long prompt, over the first link. */
  ttftMs: number
  promptTokens: number
}

/** Answers on a mesh of so many devices, over each of the links. */
async function answers(folder: string, manifest: Manifest, stages: number): Promise<Found> {
  const memory = String(shareBytes(manifest, SHARES[stages]!))
  const names = NAMES.slice(0, stages)
  await using lab = await Lab.create({
    // Two at least; nothing runs on the other.
    hosts: NAMES.slice(0, Math.max(2, stages)).map(name => ({ name, memory })),
    links: { default: wire(LINKS[0]!) }
  })
  for (const name of names) {
    await mkdir(lab.home(name), { recursive: true })
    await run('cp', ['-rl', folder, join(lab.home(name), 'store')])
  }
  await members(lab, names)
  await until(async () => {
    const { self, peers } = JSON.parse(await lab.cli('a', ['peers', '--json']))
    const timed = [self, ...peers].filter(({ profiles }) => Object.keys(profiles).length > 0)
    return timed.length === stages
  })
  const found: GenerateResult[] = []
  const long: GenerateResult[] = []
  for (const link of stages === 1 ? LINKS.slice(0, 1) : LINKS) {
    await lab.setLinks({ default: wire(link) })
    const rounds: GenerateResult[] = []
    for (let seed = 0; seed <= ROUNDS; seed++) rounds.push(await ask(lab, seed))
    // The first one loads the model, or meets the new links.
    rounds.shift()
    const result = rounds.toSorted((a, b) => a.tpotMs - b.tpotMs)[ROUNDS >> 1]!
    if (result.plan.stages.length !== stages) throw new Error(`${result.plan.stages.length} stages`)
    found.push(result)
    if (link !== LINKS[0]) continue
    for (let seed = 0; seed < ROUNDS; seed++)
      long.push(await ask(lab, seed, { prompt: `${seed} ${LONG_PROMPT}`, tokens: 1 }))
  }
  const { ttftMs, promptTokens } = long.toSorted((a, b) => a.ttftMs - b.ttftMs)[ROUNDS >> 1]!
  return { answers: found, ttftMs, promptTokens }
}

async function ask(
  lab: Lab,
  seed: number,
  { prompt = 'a few words to begin with', tokens = TOKENS } = {}
): Promise<GenerateResult> {
  const settings = ['--model', 'measured', '--max-tokens', String(tokens), '--temperature', '1']
  return JSON.parse(
    await lab.cli('a', ['run', prompt, '--raw', '--json', '--seed', String(seed), ...settings])
  )
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}

function report(results: GenerateResult[], stages: number, { shape }: Manifest): void {
  say(`\n${stages} devices: ms a token    computing  transfers  delays    sum  measured  beyond`)
  results.forEach(({ measured, tpotMs }, i) => {
    const { name, mbps, latencyMs } = LINKS[i]!
    const computeMs = sum(measured.stages.map(stage => stage.computeMs))
    const bytes = (stages - 1) * shape.hiddenSize * 4 + TOKEN_BYTES
    const transferMs = (8 * bytes) / (mbps * 1000)
    const delayMs = stages * latencyMs
    const allMs = computeMs + transferMs + delayMs
    const cells = [computeMs, transferMs, delayMs, allMs, tpotMs].map(ms => ms.toFixed(1))
    const [compute, transfers, delays, all, total] = cells
    say(
      `  ${name.padEnd(22)} ${compute!.padStart(10)} ${transfers!.padStart(10)} ${delays!.padStart(7)} ${all!.padStart(6)} ${total!.padStart(9)} ${`${(100 * (tpotMs / allMs - 1)).toFixed(1)} %`.padStart(7)}`
    )
    const waits = measured.stages.map(({ waitMs }) => waitMs.toFixed(2)).join(', ')
    const links = measured.linksMs.map(ms => ms.toFixed(2)).join(', ')
    say(`      waiting at the stages ${waits}; links ${links}`)
  })
  say(`  others, for the same links: ${LINKS.map(({ name }) => name).join(' | ')}`)
  for (const { name, ms } of OTHERS[stages]!) {
    const cells = ms.map((theirs, i) => {
      if (theirs === undefined) return '-'
      return `${theirs.toFixed(1)} (${(theirs / results[i]!.tpotMs).toFixed(2)} x ours)`
    })
    say(`    ${name.padEnd(36)} ${cells.join(' | ')}`)
  }
}

const { values, positionals } = commandOptions(import.meta.url, {
  allowPositionals: true,
  options: {
    quantize: { type: 'string', default: 'none' },
    devices: { type: 'string', multiple: true, default: ['2', '3'] }
  }
})
const [tool] = positionals
const problem = labProblem() ?? (tool === undefined ? 'name the program that writes the model' : null)
if (problem !== null) say(`skipped: ${problem}`)
else {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-stages-'))
  try {
    const gguf = join(folder, 'model.gguf')
    await run('python3', [tool!, gguf])
    const storeDir = join(folder, 'store')
    const quantize = values.quantize === 'q4' ? 'q4' : 'none'
    const store = await ModelStore.open(storeDir)
    const { manifest } = await importModel(gguf, store, { name: 'measured', quantize })
    await rm(gguf)
    const one = await answers(storeDir, manifest, 1)
    const [alone] = one.answers
    say(
      `one device: ${alone!.tpotMs.toFixed(1)} ms a token (llama.cpp, where the others were measured: ${OTHERS_ALONE_MS})`
    )
    for (const stages of values.devices.map(Number)) {
      const { answers: results, ttftMs, promptTokens } = await answers(storeDir, manifest, stages)
      report(results, stages, manifest)
      const share = (ttftMs / one.ttftMs).toFixed(2)
      say(
        `  first token of ${promptTokens} tokens: ${ttftMs.toFixed(0)} ms, ${share} of one device's ${one.ttftMs.toFixed(0)}`
      )
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
