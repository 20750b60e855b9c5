/**
 * What the loss of a device costs an answer: from the last token before to the first one after, with a spare that has nothing, one
 * that has prefetched the weights and has no memory to load them ahead, one that has loaded them too (`warm`), and one that stands by.
 * Three real nodes in this process, on loopback, so that a download costs less than over any network; random weights of the 1.1B shape at
 * 4 bits, with so many of its layers.
 *
 *     npm run bench:recovery -- [--layers 22] [--tokens 60] [--ways cold,prefetched,warm,standby]
 *
 * Prints each as milliseconds, in token times of the same answer, over the first one, what each part of it took, and the processor time
 * of all three nodes meanwhile, which other programs hardly change. Exits with 1 where a token is another one than without a loss.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from '../../models/manifest.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { EdgeNode, GenerateEvent, GenerateRequest, GenerateResult } from '../../node/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { quantile } from './statistics.ts'

const WAYS = ['cold', 'prefetched', 'warm', 'standby'] as const
type Way = (typeof WAYS)[number]

const { values } = commandOptions(import.meta.url, {
  options: {
    layers: { type: 'string', default: '22' },
    tokens: { type: 'string', default: '60' },
    ways: { type: 'string', default: WAYS.join() }
  }
})
const [layers, maxTokens] = [values.layers, values.tokens].map(Number) as [number, number]
const SHAPE = { hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 }
const REQUEST: GenerateRequest = ask('What is a pump?', {
  model: 'large',
  seed: 3,
  maxTokens,
  ignoreEos: true,
  placement: { method: 'edgeshard-even' }
})
/** What the third device gives, of what the whole model takes: half of that is less than the lost stage where nothing is to be warm. */
const SPARE_SHARE = { cold: 0.9, prefetched: 0.9, warm: 2, standby: 2 }
/** Weights that are here are loaded within this time. */
const WARM_MS = 8000
/** Between two tokens that are read. */
const READ_MS = 200
const say = (line: string) => void process.stdout.write(`${line}\n`)

function shareBytes(manifest: Manifest, share: number): number {
  const whole: [number, number] = [0, manifest.layers.length]
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, { slots: 1, maxTokens: 512 })
  return Math.ceil(share * (weightBytes + ownBytes))
}

/** A device that joins the first one. */
async function joined(nodes: Nodes, source: EdgeNode, init: Parameters<Nodes['add']>[0]): Promise<EdgeNode> {
  const node = await nodes.add({ ...init, peers: source.addresses.slice(0, 1), bundled: false })
  await until(() => source.mesh().peers.some(peer => peer.peerId === node.peerId && peer.connected))
  return node
}

interface Measured {
  gapMs: number
  /** Of all nodes, from the last token before to the first one after. */
  processorMs: number
  tokenMs: number
  result: GenerateResult
  spent: Extract<GenerateEvent, { type: 'recovered' }>['spent'] | undefined
}

/** An answer that loses its second device half way, with the third one ready as said. */
async function measured(way: Way, store: string, manifest: Manifest): Promise<Measured> {
  await using nodes = new Nodes()
  const home = await nodes.home()
  await cp(store, join(home, 'store'), { recursive: true })
  const source = await nodes.add({ name: 'a', home, bundled: false, memoryBytes: shareBytes(manifest, 0.9) })
  const memoryBytes = shareBytes(manifest, 2)
  const b = await joined(nodes, source, { name: 'b', memoryBytes })
  const twin = await answer(source, REQUEST)
  const prefetches = way === 'prefetched' || way === 'warm'
  const spareBytes = shareBytes(manifest, SPARE_SHARE[way])
  const init = { name: 'c', memoryBytes: spareBytes, prefetchBytes: prefetches ? 1e12 : 0 }
  const c = await joined(nodes, source, init)
  if (prefetches) {
    const [start, end] = twin.plan.stages[1]!.layers
    const held = () => c.mesh().self.models.flatMap(({ layers }) => layers)
    await until(() => held().some(([from, to]) => from <= start && end <= to))
    await new Promise(resolve => setTimeout(resolve, WARM_MS))
    if (c.mesh().leases.length > 0 !== (way === 'warm')) throw new Error(`${way}: it is the other way`)
  }
  const atMs: number[] = []
  const usedMs: number[] = []
  let result: GenerateResult | undefined
  let spent: Measured['spent']
  let stopping: Promise<void> | undefined
  let readyTokens = 0
  for await (const event of source.generate({ ...REQUEST, standby: way === 'standby' })) {
    if (event.type === 'done') result = event.result
    if (event.type === 'recovered') spent = event.spent
    if (event.type !== 'text') continue
    for (const _ of event.tokens) {
      atMs.push(performance.now())
      const { user, system } = process.cpuUsage()
      usedMs.push((user + system) / 1000)
    }
    // The answer is never far ahead of its reader, or it would be done before the device dies.
    await new Promise(resolve => setTimeout(resolve, READ_MS))
    const isReady =
      way !== 'standby' || (source.mesh().deployments[0]?.standby !== undefined && c.mesh().sessions === 1)
    // What stands by has some tokens' time to catch up.
    if (isReady) readyTokens++
    if (stopping === undefined && readyTokens > maxTokens / 4) stopping = b.stop()
  }
  await stopping
  if (result!.tokens.join() !== twin.tokens.join()) throw new Error(`${way}: the tokens are others`)
  const gapsMs = atMs.slice(1).map((ms, i) => ms - atMs[i]!)
  if (result!.recoveries + (result!.moves?.length ?? 0) === 0) throw new Error(`${way}: it was not disturbed`)
  const gapMs = Math.max(...gapsMs)
  const at = gapsMs.indexOf(gapMs)
  const processorMs = usedMs[at + 1]! - usedMs[at]!
  return { gapMs, processorMs, tokenMs: quantile(gapsMs, 0.5), result: result!, spent }
}

const dir = await mkdtemp(join(tmpdir(), 'edgeshard-recovery-'))
try {
  const manifest = await randomStore(dir, {
    name: 'large',
    shape: { ...SHAPE, decoderLayers: layers },
    quantization: { bits: 4, blockSize: 128 }
  })
  const mib = manifest.layers.reduce((sum, { bytes }) => sum + bytes, 0) / 2 ** 20
  say(`${layers} layers, ${mib.toFixed(0)} MiB of weights`)
  let first: number | undefined
  for (const way of WAYS.filter(way => values.ways.split(',').includes(way))) {
    const { gapMs, processorMs, tokenMs, result, spent } = await measured(way, dir, manifest)
    first ??= gapMs
    const [gap, tokens, ratio] = [gapMs.toFixed(0), (gapMs / tokenMs).toFixed(1), (gapMs / first).toFixed(3)]
    const how = result.recoveries > 0 ? 'recovered' : 'went over'
    say(`${way.padEnd(10)} ${how}: next token after ${gap} ms, ${tokens} token times; ${ratio} of the first`)
    const parts = Object.entries(spent ?? {}).map(
      ([part, ms]) => `${part.replace(/Ms$/, '')} ${ms.toFixed(0)}`
    )
    say(`           ms: ${[...parts, `processor time ${processorMs.toFixed(0)}`].join(', ')}`)
  }
} catch (error) {
  process.exitCode = 1
  throw error
} finally {
  await rm(dir, { recursive: true, force: true })
}
