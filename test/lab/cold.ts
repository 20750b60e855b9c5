/**
 * From `edgeshard run` to the first token where nothing of the model is anywhere but on one of three devices, over links of a
 * stated rate: the time, what it was spent on, and its ratio to what cannot be had sooner, which is the weights that the
 * busiest link carries at its rate and the longest load. Then the next `run`, whose time is held beside the node's own TTFT.
 *
 *     npm run bench:cold-mesh -- [--model medium|large] [--mbps N] [--latency-ms N] [--rounds N] [--prompted holder|other]
 *
 * `medium` has some 85 MB of random weights, `large` the shape of TinyLlama 1.1B at 4 bits; it takes three devices to hold
 * either. `--prompted` says whether the device that has the model is asked, or one that has nothing of it. The marks are
 * lines of the nodes' own logs. Needs the right to make network namespaces (root).
 */
import { spawn } from 'node:child_process'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from '../../models/manifest.ts'
import { SHAPE } from '../bench/runtime-models.ts'
import { quantile } from '../bench/statistics.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { until } from '../fixtures/nodes.ts'
import { type RandomStoreOptions, randomStore } from '../fixtures/random-store.ts'
import { shareBytes } from '../fixtures/stored-model.ts'
import { Lab } from './lab.ts'
import type { LabLogLine, LabNode } from './lab-node.ts'
import { members } from './members.ts'
import { labProblem } from './permitted.ts'

const HOLDER = 'holder'
const HOSTS = [HOLDER, 'other', 'third']
const PROMPT = 'What does a thermostat do in a house where nobody is at home?'
/** Share of what the model needs that each device offers, so that it takes three. */
const SHARE = 0.44
const MODELS: Record<string, RandomStoreOptions> = {
  medium: {
    name: 'medium',
    shape: { decoderLayers: 12, hiddenSize: 1024, ffnSize: 2816, heads: 16, kvHeads: 4, headSize: 64 },
    quantization: { bits: 4, blockSize: 32 }
  },
  large: { name: 'large', shape: SHAPE, quantization: { bits: 4, blockSize: 32 } }
}

/** The end of each part, as the log of the device that is asked says it; a part that does not happen takes no time. */
const PARTS = [
  ['command', 'request taken'],
  ['tokenizer', 'prompt encoded'],
  ['links', 'links known'],
  ['timing', 'layers timed'],
  ['plan', 'planned'],
  ['reserve', 'reserved'],
  ['fetch', 'fetched'],
  ['load', 'loaded'],
  ['prefill', 'first token']
] as const
type Part = (typeof PARTS)[number][0]

interface Cold {
  parts: Record<Part, number>
  totalMs: number
  /** Bytes of weights that came over the link which carried most, and the longest load of a device. */
  linkBytes: number
  loadMs: number
}

const say = (line: string) => process.stdout.write(`${line}\n`)
const atMs = ({ time }: LabLogLine) => Date.parse(time)

/** Runs the command on a host; resolves with the time from its start to the first text that it prints. */
async function run(lab: Lab, host: string, name: string): Promise<{ startMs: number; printedMs: number }> {
  const args = ['run', PROMPT, '--raw', '--model', name, '--max-tokens', '8']
  const startMs = Date.now()
  const child = spawn(...lab.commandOf(host, args), { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let printedMs: number | undefined
  child.stdout.on('data', () => {
    printedMs ??= Date.now() - startMs
  })
  child.stderr.on('data', chunk => {
    said += chunk
  })
  const code = await new Promise(resolve => child.once('close', resolve))
  if (code !== 0 || printedMs === undefined) throw new Error(`run ended with ${code}: ${said}`)
  return { startMs, printedMs }
}

/** The lines of a device's log that belong to the answer that began at `sinceMs`. */
function since(node: LabNode, sinceMs: number): LabLogLine[] {
  return node.log.filter(line => atMs(line) >= sinceMs)
}

function coldOf(nodes: readonly LabNode[], source: LabNode, startMs: number): Cold {
  const all = nodes.map(node => ({ host: node.host, lines: since(node, startMs) }))
  const own = all.find(({ host }) => host === source.host)!.lines
  const endMs = own.filter(({ message }) => message === 'first token').map(atMs)[0]
  if (endMs === undefined) throw new Error('there was no first token')
  const lastFetched = all.flatMap(({ lines }) => fetchedAt(lines)).filter(ms => ms <= endMs)
  let beforeMs = startMs
  const parts = PARTS.map(([part, message]) => {
    const found =
      part === 'fetch'
        ? Math.max(beforeMs, ...lastFetched)
        : (own
            .filter(line => line.message === message && atMs(line) <= endMs)
            .map(atMs)
            .at(-1) ?? beforeMs)
    const ms = Math.max(0, found - beforeMs)
    beforeMs = Math.max(beforeMs, found)
    return [part, ms] as const
  })
  return {
    parts: Object.fromEntries(parts) as Record<Part, number>,
    totalMs: endMs - startMs,
    linkBytes: Math.max(0, ...all.map(({ lines }) => fetchedBytes(lines))),
    loadMs: Math.max(...all.flatMap(({ lines }) => loadOf(lines)))
  }
}

function fetchedAt(lines: readonly LabLogLine[]): number[] {
  return lines.filter(({ message }) => message.startsWith('fetched ')).map(atMs)
}

function fetchedBytes(lines: readonly LabLogLine[]): number {
  return lines
    .flatMap(({ message }) => /^fetched ([\d.]+) MB/.exec(message)?.[1] ?? [])
    .reduce((sum, megabytes) => sum + 1e6 * Number(megabytes), 0)
}

/** How long a device loaded, in ms, from the last of its weights on; empty where it loaded nothing. */
function loadOf(lines: readonly LabLogLine[]): number[] {
  const served = lines.find(({ message }) => message === 'lease loaded')
  if (served === undefined) return []
  const fetched = fetchedAt(lines).filter(ms => ms <= atMs(served))
  return [atMs(served) - Math.max(atMs(served) - Number(served.fields.ms), ...fetched)]
}

/** A mesh of three devices just started, and what its first two answers took. */
async function measure(
  folder: string,
  manifest: Manifest,
  { name, prompted, mbps, latencyMs }: { name: string; prompted: string; mbps: number; latencyMs: number }
): Promise<{ cold: Cold; warmMs: number; warmTtftMs: number }> {
  const memory = String(shareBytes(manifest, SHARE))
  await using lab = await Lab.create({
    hosts: HOSTS.map(host => ({ name: host, memory })),
    links: { default: { mbps, latencyMs } }
  })
  await cp(folder, join(lab.home(HOLDER), 'store'), { recursive: true })
  const nodes = await members(lab, HOSTS, ['--log-level', 'debug', '--log-format', 'json'])
  await until(() => nodes.every(({ connected }) => connected.length === HOSTS.length - 1))
  const source = nodes.find(({ host }) => host === prompted)!
  const { startMs } = await run(lab, prompted, name)
  const cold = coldOf(nodes, source, startMs)
  const warm = await run(lab, prompted, name)
  const answered = since(source, warm.startMs).find(({ message }) => message === 'answered')
  return { cold, warmMs: warm.printedMs, warmTtftMs: Number(answered?.fields.ttftMs) }
}

const { values } = commandOptions(import.meta.url, {
  options: {
    model: { type: 'string', default: 'medium' },
    mbps: { type: 'string', default: '100' },
    'latency-ms': { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
    prompted: { type: 'string', multiple: true, default: [HOLDER, 'other'] }
  }
})
const problem = labProblem()
const model = MODELS[values.model]
if (model === undefined) throw new Error(`there is no model ${values.model}, only ${Object.keys(MODELS)}`)
if (problem !== null) say(`skipped: ${problem}`)
else {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-cold-'))
  try {
    const [mbps, latencyMs] = [Number(values.mbps), Number(values['latency-ms'])]
    const manifest = await randomStore(folder, model)
    const bytes = manifest.layers.reduce((sum, layer) => sum + layer.bytes, 0)
    say(`${(bytes / 1e6).toFixed(0)} MB of weights, links of ${mbps} Mbps and ${latencyMs} ms; ms`)
    const heads = [...PARTS.map(([part]) => part), 'all', 'link', 'load', 'ratio', 'warm', '- TTFT']
    say(`${'asked'.padEnd(10)}${heads.map(head => head.padStart(10)).join('')}`)
    const summaries: string[] = []
    for (const prompted of values.prompted) {
      const ratios: number[] = []
      const overMs: number[] = []
      for (let round = 0; round < Number(values.rounds); round++) {
        const { cold, warmMs, warmTtftMs } = await measure(folder, manifest, {
          name: model.name,
          prompted,
          mbps,
          latencyMs
        })
        const linkMs = (8 * cold.linkBytes) / (mbps * 1000)
        ratios.push(cold.totalMs / (linkMs + cold.loadMs))
        overMs.push(warmMs - warmTtftMs)
        const times = [...PARTS.map(([part]) => cold.parts[part]), cold.totalMs, linkMs, cold.loadMs]
        const cells = [
          ...times.map(ms => ms.toFixed(0)),
          ratios.at(-1)!.toFixed(2),
          warmMs.toFixed(0),
          overMs.at(-1)!.toFixed(0)
        ]
        say(`${prompted.padEnd(10)}${cells.map(cell => cell.padStart(10)).join('')}`)
      }
      const [ratio, over] = [quantile(ratios, 0.5), quantile(overMs, 0.5)]
      summaries.push(
        `${prompted} asked, in the median of ${ratios.length}: the first token after ${ratio.toFixed(2)} times ` +
          `(weights over the busiest link + load); warm ${(over / 1000).toFixed(2)} s over the node's own`
      )
    }
    for (const summary of summaries) say(summary)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
