/**
 * How soon a running answer is drawn elsewhere, once a link has fallen from 100 to 5 Mbps, and once a device has joined with which
 * it is faster, whose layers are on its disk: real nodes in this process, links over relays that pass so many Mbps, random weights of
 * the 1.1B shape at 4 bits, with so many of its layers, and a reader of 40 tokens a second.
 *
 *     npm run bench:moves -- [--layers 8] [--tokens 300] [--only link,join]
 *
 * Prints both with their aims, and what each part took. Wants a machine with little else to do. Exits with 1 where the answer did
 * not move.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Manifest } from '../../models/manifest.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { Move } from '../../node/api.ts'
import type { EdgeNode, GenerateRequest } from '../../node/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { type Figure, tableOf } from './aims.ts'
import { bytesPerSecond, joinOver, type RelayedDevice } from './relayed-device.ts'
import { quantile } from './statistics.ts'

const KINDS = ['link', 'join'] as const
type Kind = (typeof KINDS)[number]

const { values } = commandOptions(import.meta.url, {
  options: {
    layers: { type: 'string', default: '8' },
    tokens: { type: 'string', default: '300' },
    only: { type: 'string', default: KINDS.join() }
  }
})
const [layers, maxTokens] = [values.layers, values.tokens].map(Number) as [number, number]
const SHAPE = { hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 }
const REQUEST: GenerateRequest = ask('What is a pump?', {
  ...{ model: 'large', seed: 3, maxTokens, ignoreEos: true }
})
/** What the source gives: too little for the whole model. */
const SOURCE_SHARE = 0.7
const OTHERS_SHARE = 3
const [USUAL_MBPS, FALLEN_MBPS] = [100, 5]
/** Weights that are ready for a loss are loaded within this time. */
const SETTLE_MS = 10_000
const READ_MS = 25
const [MOST_AFTER_FALL_S, MOST_AFTER_LOAD_S, MOST_GAP_TOKENS] = [5, 2, 2]
const say = (line: string) => void process.stdout.write(`${line}\n`)

function shareBytes(manifest: Manifest, share: number): number {
  const whole: [number, number] = [0, manifest.layers.length]
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, { slots: 1, maxTokens: 1024 })
  return Math.ceil(share * (weightBytes + ownBytes))
}

/** A mesh of devices that have the model on their disks each. */
class Bench {
  readonly nodes: Nodes
  readonly others = new Map<string, RelayedDevice>()
  readonly #dir: string
  readonly #manifest: Manifest

  constructor(nodes: Nodes, dir: string, manifest: Manifest) {
    this.nodes = nodes
    this.#dir = dir
    this.#manifest = manifest
  }

  async source(): Promise<EdgeNode> {
    const memoryBytes = shareBytes(this.#manifest, SOURCE_SHARE)
    return await this.nodes.add({ name: 'a', home: await this.#home(), memoryBytes, bundled: false })
  }

  async joins(source: EdgeNode, name: string, mbps: number): Promise<void> {
    const memoryBytes = shareBytes(this.#manifest, OTHERS_SHARE)
    const init = { name, home: await this.#home(), memoryBytes, prefetchBytes: 1e12 }
    this.others.set(name, await joinOver(this.nodes, source, init, mbps))
  }

  /** Waits until the source knows what it plans with: links both ways, and times of the devices. */
  async known(source: EdgeNode): Promise<void> {
    const isKnown = ({ node }: RelayedDevice) => {
      const { peers, links } = source.mesh()
      const peer = peers.find(({ peerId }) => peerId === node.peerId)
      const ways = links.filter(({ from, to }) => from === node.peerId || to === node.peerId)
      return ways.length >= 2 && Object.keys(peer?.profiles ?? {}).length > 0
    }
    await until(() => [...this.others.values()].every(isKnown))
  }

  async #home(): Promise<string> {
    const home = await this.nodes.home()
    await cp(this.#dir, join(home, 'store'), { recursive: true })
    return home
  }
}

interface Measured {
  move: Move | undefined
  /** From what happened until the first token over the new placement. */
  afterMs: number
  /** The same until the source knew of the link's rate, or of the device's times. */
  knownMs: number
  /** In token times of those before. */
  gapTokens: number
}

/** Reads an answer during which `act` makes something happen, and then waits until `isKnown`. */
async function drawn(
  source: EdgeNode,
  atToken: number,
  act: () => Promise<number>,
  isKnown: () => boolean
): Promise<Measured> {
  const atMs: number[] = []
  let [happenedAtMs, knownAtMs, movedAtMs] = [Number.NaN, Number.NaN, Number.NaN]
  let move: Move | undefined
  let acting: Promise<void> | undefined
  let isOver = false
  for await (const event of source.generate(REQUEST)) {
    if (event.type === 'moved' && move === undefined) {
      move = event.move
      movedAtMs = performance.now()
    }
    if (event.type !== 'text') continue
    for (const _ of event.tokens) atMs.push(performance.now())
    if (atMs.length >= atToken && acting === undefined)
      acting = act().then(async ms => {
        happenedAtMs = ms
        while (!isKnown() && move === undefined && !isOver) await delay(20)
        if (!isOver) knownAtMs = performance.now()
      })
    await delay(READ_MS)
  }
  isOver = true
  await acting
  const gapsMs = atMs.slice(1).map((ms, i) => ms - atMs[i]!)
  const tokens = move?.tokens ?? 0
  const before = gapsMs.slice(Math.max(0, tokens - 40), Math.max(1, tokens - 1))
  const gapTokens = (move?.spent.gapMs ?? Number.NaN) / quantile(before, 0.5)
  return { move, afterMs: movedAtMs - happenedAtMs, knownMs: knownAtMs - happenedAtMs, gapTokens }
}

/** A link falls over which the answer runs; another device has one that is as fast as that was. */
async function linkFalls(bench: Bench): Promise<Measured> {
  const source = await bench.source()
  await bench.joins(source, 'b', USUAL_MBPS)
  await bench.joins(source, 'c', USUAL_MBPS)
  await bench.known(source)
  await answer(source, { ...REQUEST, maxTokens: 16 })
  await delay(SETTLE_MS)
  const used = () => {
    const names = source.mesh().deployments.flatMap(({ plan }) => plan.stages.map(({ name }) => name))
    return bench.others.get(names.find(name => bench.others.has(name))!)!
  }
  let fallen: RelayedDevice | undefined
  const fall = async () => {
    fallen = used()
    fallen.relay.bytesPerSecond = bytesPerSecond(FALLEN_MBPS)
    return performance.now()
  }
  const isKnown = () => {
    const link = source
      .mesh()
      .links.find(({ from, to }) => from === source.peerId && to === fallen?.node.peerId)
    return link !== undefined && link.mbps < 2 * FALLEN_MBPS
  }
  return await drawn(source, maxTokens / 4, fall, isKnown)
}

/** A device joins over a fast link, where the other one has a slow one. */
async function deviceJoins(bench: Bench): Promise<Measured> {
  const source = await bench.source()
  await bench.joins(source, 'b', FALLEN_MBPS)
  await bench.known(source)
  await answer(source, { ...REQUEST, maxTokens: 16 })
  await delay(SETTLE_MS)
  const joins = async () => {
    await bench.joins(source, 'c', USUAL_MBPS)
    return performance.now()
  }
  const isKnown = () => {
    const peer = source.mesh().peers.find(({ name }) => name === 'c')
    return Object.keys(peer?.profiles ?? {}).length > 0
  }
  return await drawn(source, maxTokens / 5, joins, isKnown)
}

function figuresOf(kind: Kind, { move, afterMs, knownMs, gapTokens }: Measured): Figure[] {
  const { loadMs = Number.NaN, catchUpMs = Number.NaN } = move?.spent ?? {}
  const { beforeMs = Number.NaN, afterMs: thereMs = Number.NaN } = move?.predicted ?? {}
  const what = kind === 'link' ? 'a link falls from 100 to 5 Mbps' : 'a device joins'
  const parts = `known after ${(knownMs / 1000).toFixed(1)} s, loaded in ${loadMs.toFixed(0)} ms, caught up in ${catchUpMs.toFixed(0)} ms`
  const most = kind === 'link' ? MOST_AFTER_FALL_S : Number((loadMs / 1000 + MOST_AFTER_LOAD_S).toFixed(1))
  const faster = `predicted ${beforeMs.toFixed(1)} ms a token, there ${thereMs.toFixed(1)}`
  return [
    { what: `${what}: first token elsewhere after, s`, figure: afterMs / 1000, most, beside: parts },
    { what: 'gap, in token times', figure: gapTokens, most: MOST_GAP_TOKENS, beside: faster }
  ]
}

const dir = await mkdtemp(join(tmpdir(), 'edgeshard-moves-'))
try {
  const manifest = await randomStore(dir, {
    name: 'large',
    shape: { ...SHAPE, decoderLayers: layers },
    quantization: { bits: 4, blockSize: 128 }
  })
  const figures: Figure[] = []
  for (const kind of KINDS.filter(kind => values.only.split(',').includes(kind))) {
    await using nodes = new Nodes()
    const bench = new Bench(nodes, dir, manifest)
    const measured = await (kind === 'link' ? linkFalls(bench) : deviceJoins(bench))
    for (const { relay } of bench.others.values()) await relay[Symbol.asyncDispose]()
    if (measured.move === undefined) process.exitCode = 1
    figures.push(...figuresOf(kind, measured))
  }
  say(tableOf(figures))
} finally {
  await rm(dir, { recursive: true, force: true })
}
