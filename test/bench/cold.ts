/**
 * What a first answer waits for: the start of the process and of the node, the tokenizer, the timing of layers, the plan,
 * the reservation, the loading of the weights, the prompt. On one device where no node is up, and on three nodes on
 * loopback that have all weights on disk.
 *
 *     npm run bench:cold -- [--gguf FILE] [--rounds N] [--model bundled|large]
 *
 * `large` has the shape of TinyLlama 1.1B with random weights at 4 bits in blocks of 32, or what is in FILE. Beside it stand
 * what reading the same weights takes, the second answer, and, where EDGESHARD_BENCH_LLAMA names llama.cpp's program
 * `llama-cli` and FILE is given, its own time from its start to its end for one token of the same model. Each round starts
 * on a home without profiles, then again on what that has left there. The marks are lines of the nodes' own logs.
 */
import { execFile, spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { importModel } from '../../models/import/import-model.ts'
import type { Manifest } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { createClient } from '../../node/client/index.ts'
import { DEFAULT_MODEL } from '../../node/constants.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { SECRET, until } from '../fixtures/nodes.ts'
import { shareBytes, storeRandomModel } from '../fixtures/stored-model.ts'
import { Q4_0, SHAPE } from './runtime-models.ts'

const LAUNCHER = fileURLToPath(new URL('../../node/cli/edgeshard.mjs', import.meta.url))
const PROMPT = 'What does a thermostat do in a house where nobody is at home?'
const LOGS = ['--log-level', 'debug', '--log-format', 'json']
/** Of what the model needs, so that it takes three devices. */
const SHARE_OF_THREE = 0.44

/** The end of each part, as the log says it; a part that does not happen takes no time. */
const PARTS = [
  ['process', 'node starting'],
  ['node', 'node started'],
  ['tokenizer', 'prompt encoded'],
  ['profile', 'layers timed'],
  ['plan', 'planned'],
  ['recruit', 'reserved'],
  ['load', 'loaded'],
  ['prefill', 'first token']
] as const
type Part = (typeof PARTS)[number][0]

interface Timed {
  parts: Record<Part, number>
  totalMs: number
}

interface LogLine {
  atMs: number
  message: string
}

interface Subject {
  label: string
  name: string
  /** A store with the model. */
  dir: string
  manifest: Manifest
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const run = promisify(execFile)

/** The last line of each kind between two moments ends its part, and the next begins there. */
function partsOf(lines: readonly LogLine[], startMs: number): Timed {
  const endMs = lines.find(({ message }) => message === 'first token')?.atMs
  if (endMs === undefined) throw new Error('there was no first token')
  let beforeMs = startMs
  const parts = PARTS.map(([part, message]) => {
    const atMs = lines.findLast(line => line.message === message && line.atMs <= endMs)?.atMs ?? beforeMs
    const ms = Math.max(0, atMs - beforeMs)
    beforeMs = Math.max(beforeMs, atMs)
    return [part, ms] as const
  })
  return { parts: Object.fromEntries(parts) as Record<Part, number>, totalMs: endMs - startMs }
}

function parsed(line: string): LogLine[] {
  // Warnings of Node are no lines of ours.
  if (!line.startsWith('{')) return []
  const { time, message } = JSON.parse(line) as { time: string; message: string }
  return [{ atMs: Date.parse(time), message }]
}

const answerArgs = (name: string) => ['run', PROMPT, '--raw', '--model', name, '--max-tokens', '4']

/** `edgeshard run` where no node is up. */
async function runAlone(home: string, name: string): Promise<Timed> {
  const lines: LogLine[] = []
  const startMs = Date.now()
  const child = spawn(process.execPath, [LAUNCHER, ...answerArgs(name), '--home', home, ...LOGS], {
    stdio: ['ignore', 'ignore', 'pipe']
  })
  createInterface({ input: child.stderr }).on('line', line => lines.push(...parsed(line)))
  const code = await new Promise(resolve => child.once('close', resolve))
  if (code !== 0) throw new Error(`edgeshard run ended with ${code}`)
  return partsOf(lines, startMs)
}

class ThreeNodes implements AsyncDisposable {
  readonly #nodes: NodeProcess[] = []
  readonly #lines: LogLine[] = []

  static async up(homes: readonly string[], { manifest }: Subject): Promise<ThreeNodes> {
    const three = new ThreeNodes()
    try {
      for (const home of homes) await three.#add(home, shareBytes(manifest, SHARE_OF_THREE))
      await until(async () => (await three.#source.mesh()).peers.filter(p => p.connected).length === 2)
      return three
    } catch (error) {
      await three[Symbol.asyncDispose]()
      throw error
    }
  }

  /** An answer of the first node; the client is a process that is running. */
  async answer({ name }: Subject): Promise<Timed> {
    this.#lines.length = 0
    const startMs = Date.now()
    const request = { model: name, input: { kind: 'raw', text: PROMPT }, maxTokens: 4 } as const
    let stages = 0
    for await (const event of createClient({ url: this.#source.api }).generate(request)) {
      if (event.type === 'done') stages = event.result.plan.stages.length
    }
    // The source may hold a stage at either end.
    if (stages < 3) throw new Error(`the answer came from ${stages} stages`)
    return partsOf(this.#lines, startMs)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#nodes.map(node => node.stop()))
  }

  get #source(): NodeProcess {
    return this.#nodes[0]!
  }

  async #add(home: string, memoryBytes: number): Promise<void> {
    const first = this.#nodes.length === 0
    const args = ['--home', home, '--name', `n${this.#nodes.length}`, '--port', '0', '--api', '127.0.0.1:0']
    const peers = this.#nodes.flatMap(({ addresses }) => ['--peer', addresses[0]!])
    const all = [...args, '--no-mdns', '--memory', String(memoryBytes), ...peers, ...LOGS]
    const onLog = (line: string) => void (first && this.#lines.push(...parsed(line)))
    this.#nodes.push(await NodeProcess.start(all, { onLog }))
  }
}

/** A home with the model in its store; links, where it is on the same disk, so that nothing is written. */
async function homeWith({ dir }: Subject): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'edgeshard-cold-'))
  await admitHome(home, SECRET)
  if (process.platform === 'win32') await cp(dir, join(home, 'store'), { recursive: true })
  else
    await run('cp', ['-rl', dir, join(home, 'store')]).catch(() =>
      run('cp', ['-r', dir, join(home, 'store')])
    )
  return home
}

async function readMs({ dir, manifest }: Subject): Promise<number> {
  const store = ModelStore.at(dir)
  const startMs = performance.now()
  for (const { sha256 } of manifest.layers) await readFile(store.blobPath(sha256))
  return performance.now() - startMs
}

async function llamaMs(gguf: string | undefined): Promise<number | undefined> {
  const program = process.env.EDGESHARD_BENCH_LLAMA
  if (program === undefined || gguf === undefined) return undefined
  const startMs = performance.now()
  const threads = String(Math.max(1, Math.floor(availableParallelism() / 2)))
  await run(program, ['-m', gguf, '-p', PROMPT, '-n', '1', '--temp', '0', '-no-cnv', '-t', threads])
  return performance.now() - startMs
}

function median(all: readonly Timed[]): Timed {
  return all.toSorted((a, b) => a.totalMs - b.totalMs)[all.length >> 1]!
}

function row(label: string, { parts, totalMs }: Timed, baselines: readonly (number | undefined)[]): void {
  const cells = [...PARTS.map(([part]) => parts[part].toFixed(0)), totalMs.toFixed(0)]
  const ratios = baselines.map(ms => (ms === undefined ? '-' : (totalMs / ms).toFixed(1)))
  say(`${label.padEnd(44)}${[...cells, ...ratios].map(cell => cell.padStart(10)).join('')}`)
}

async function measure(subject: Subject, rounds: number, gguf: string | undefined): Promise<void> {
  const alone: Timed[][] = [[], []]
  const three: Timed[][] = [[], [], []]
  const reads: number[] = []
  const llama: (number | undefined)[] = []
  for (let round = 0; round < rounds; round++) {
    const homes: string[] = []
    try {
      for (let i = 0; i < 4; i++) homes.push(await homeWith(subject))
      reads.push(await readMs(subject))
      llama.push(await llamaMs(gguf))
      for (const times of alone) times.push(await runAlone(homes[0]!, subject.name))
      const [, ...others] = homes
      {
        await using nodes = await ThreeNodes.up(others, subject)
        three[0]!.push(await nodes.answer(subject))
      }
      await using again = await ThreeNodes.up(others, subject)
      three[1]!.push(await again.answer(subject))
      three[2]!.push(await again.answer(subject))
    } finally {
      await Promise.all(homes.map(home => rm(home, { recursive: true, force: true })))
    }
  }
  const read = reads.toSorted((a, b) => a - b)[rounds >> 1]!
  const llamaTimes = llama.filter(ms => ms !== undefined).toSorted((a, b) => a - b)
  const theirs = llamaTimes[llamaTimes.length >> 1]
  const next = median(three[2]!)
  const baselines = [read, next.totalMs, theirs]
  const megabytes = subject.manifest.layers.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6
  say(`\n${subject.label}, ${megabytes.toFixed(0)} MB; reading it takes ${read.toFixed(0)} ms`)
  if (theirs !== undefined) say(`llama.cpp, from its start to its end, one token: ${theirs.toFixed(0)} ms`)
  const heads = [...PARTS.map(([part]) => part), 'all', '/ read', '/ next', '/ llama']
  say(`${'ms'.padEnd(44)}${heads.map(head => head.padStart(10)).join('')}`)
  row('no node up, nothing known', median(alone[0]!), baselines)
  row('no node up, started before', median(alone[1]!), baselines)
  row('3 nodes up, first answer, nothing known', median(three[0]!), baselines)
  row('3 nodes up, first answer, started before', median(three[1]!), baselines)
  row('3 nodes up, next answer', next, baselines)
}

const { values } = commandOptions(import.meta.url, {
  options: {
    gguf: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    model: { type: 'string', multiple: true, default: ['bundled', 'large'] }
  }
})
const rounds = Number(values.rounds)
const dir = await mkdtemp(join(tmpdir(), 'edgeshard-cold-store-'))
try {
  if (values.model.includes('bundled')) {
    const bundled = join(dir, 'bundled')
    const store = await ModelStore.open(bundled)
    await store.adopt(BUNDLED_DIR)
    const { name, manifest } = await store.resolve(DEFAULT_MODEL)
    await measure({ label: 'bundled', name, dir: bundled, manifest }, rounds, undefined)
  }
  if (values.model.includes('large')) {
    const name = 'large'
    const large = join(dir, name)
    const manifest =
      values.gguf === undefined
        ? await storeRandomModel(large, name, SHAPE, Q4_0)
        : (await importModel(values.gguf, await ModelStore.open(large), { name, quantize: 'none' })).manifest
    await measure({ label: '1.1B at 4 bits', name, dir: large, manifest }, rounds, values.gguf)
  }
} finally {
  await rm(dir, { recursive: true, force: true })
}
