/**
 * Bubble against no-bubble with 8 sequences over 3 stages, and no-bubble against what its slowest stage could do alone.
 *
 *     npm run bench:pipeline -- [--batch N] [--repeats N] [--cpus SHARE] [--json]
 *
 * Three processes on loopback with one compute thread each hold a third of a model of random weights; `edgeshard bench`
 * asks the first. Where the machine has no processor for each of them and one for the network, control groups hold
 * every process to the same share of one (`--cpus`, 0 for none): else the stages would take each other's time and no
 * pipeline could keep them all busy. Needs a machine with little else to do.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { kvCacheBytes, weightBytes } from '../../models/memory.ts'
import type { BenchReport, MeasuredRow } from '../../node/bench/types.ts'
import { askNode } from '../../node/cli/node-api.ts'
import { edgeshard } from '../../node/demo/node-process.ts'
import { saveMembership } from '../../node/mesh/membership.ts'
import type { MeshState } from '../../node/types.ts'
import { CONTEXT_TOKENS, SECRET, until } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { createQuota } from '../lab/cpu-quota.ts'
import { LabNode } from '../lab/lab-node.ts'

const NAMES = ['a', 'b', 'c']
const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
/** Layers as TinyLlama 1.1B has them: a stage computes some milliseconds, against which a hop is little. */
const SHAPE = { decoderLayers: 12, hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 }
/** Shortest that the kernel takes: stages are slow all the time, not in bursts. */
const QUOTA_US = 1000
/** Of what the whole model needs: too little for two of them. */
const MEMORY_SHARE = 0.4

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '8' },
    repeats: { type: 'string', default: '3' },
    cpus: { type: 'string', default: availableParallelism() > NAMES.length ? '0' : '0.6' },
    json: { type: 'boolean', default: false }
  }
})
const batch = Number(values.batch)
const cpus = Number(values.cpus)
const say = (line: string) => process.stdout.write(`${line}\n`)

const folder = await mkdtemp(join(tmpdir(), 'edgeshard-pipeline-'))
const nodes: LabNode[] = []
const quotas: { remove(): Promise<void> }[] = []
try {
  const home = (name: string) => join(folder, name)
  const manifest = await randomStore(join(home('a'), 'store'), {
    name: 'random',
    shape: SHAPE,
    quantization: { bits: 4, blockSize: 64 }
  })
  const whole: [number, number] = [0, manifest.layers.length]
  const slots = { slots: batch, maxTokens: CONTEXT_TOKENS }
  const memory = weightBytes(manifest, whole) + kvCacheBytes(manifest.shape, whole, slots)
  const addresses: string[] = []
  for (const name of NAMES) {
    if (name !== 'a') await cp(join(home('a'), 'store'), join(home(name), 'store'), { recursive: true })
    await saveMembership(home(name), { secret: SECRET, epoch: 0, banned: [] })
    const group = `edgeshard-pipeline-${process.pid}-${name}`
    const quota = cpus === 0 ? null : await createQuota(group, cpus, Math.round(QUOTA_US / cpus))
    if (quota !== null) quotas.push(quota)
    const enter = quota === null ? '' : `echo $$ > ${quota.procs}; `
    const options = [
      '--home',
      home(name),
      '--name',
      name,
      '--memory',
      String(Math.ceil(memory * MEMORY_SHARE))
    ]
    const where = ['--port', '0', '--api', '127.0.0.1:0', '--no-mdns', '--threads', '1']
    const peers = addresses.flatMap(address => ['--peer', address])
    const up = [process.execPath, CLI, 'up', '--json', ...options, ...where, ...peers]
    const node = new LabNode(name, 'sh', ['-c', `${enter}exec "$@"`, 'sh', ...up])
    nodes.push(node)
    addresses.push((await node.ready()).addresses![0]!)
  }
  await until(async () => {
    const { self, peers } = (await askNode({ home: home('a') }, '/api/mesh')) as MeshState
    const members = [self, ...peers]
    return (
      members.length === NAMES.length && members.every(({ profiles }) => Object.keys(profiles).length > 0)
    )
  })
  const what = ['--objective', 'throughput', '--methods', 'edgeshard', '--batch', String(batch)]
  const report = JSON.parse(
    await edgeshard(['bench', '--json', '--home', home('a'), '--repeats', values.repeats, ...what])
  ) as BenchReport
  if (values.json) say(JSON.stringify(report))
  else say(rendered(report, quotas.length))
} finally {
  await Promise.all(nodes.map(node => node.stop()))
  for (const quota of quotas) await quota.remove()
  await rm(folder, { recursive: true, force: true })
}

function rendered({ rows }: BenchReport, held: number): string {
  const [noBubble, bubble] = ['no-bubble', 'bubble'].map(strategy => {
    const row = rows.find(row => row.strategy === strategy)
    if (row?.outcome !== 'measured') throw new Error(row?.reason ?? `no row of ${strategy}`)
    return row
  })
  const { name, computeMs, rate } = bottleneck(noBubble!)
  const measured = noBubble!.tokensPerSecond.median
  const waiting = bubble!.tokensPerSecond.median
  return [
    `${availableParallelism()} processors, ${held === 0 ? 'no quotas' : `each process held to ${cpus} of one`}; ${batch} sequences`,
    ...[noBubble!, bubble!].map(described),
    `no-bubble through bubble: ${(measured / waiting).toFixed(2)}`,
    `the slowest stage, ${name}, computes ${computeMs.toFixed(2)} ms a step: ${rate.toFixed(1)} tokens/s if it never waited`,
    `no-bubble through that: ${((100 * measured) / rate).toFixed(1)} %`
  ].join('\n')
}

function described({ strategy, microBatches, stages, tokensPerSecond, predicted }: MeasuredRow): string {
  const { median, min, max } = tokensPerSecond
  const parts = stages.map(({ name, layers, computeMs, waitMs, busy }) => {
    return `${name} [${layers}] ${computeMs.toFixed(2)} ms + ${waitMs.toFixed(2)} waiting, ${(100 * busy).toFixed(0)} % busy`
  })
  return `${strategy}: ${median.toFixed(1)} tokens/s (${min.toFixed(1)} to ${max.toFixed(1)}, predicted ${predicted.tokensPerSecond.toFixed(1)}) in ${microBatches} micro-batches\n    ${parts.join('\n    ')}`
}

/** The device with the most to compute for one token of every sequence, all its stages together. */
function bottleneck({ stages, microBatches, batch: sequences }: MeasuredRow): {
  name: string
  computeMs: number
  rate: number
} {
  const devices = new Map<string, number>()
  for (const { name, computeMs } of stages) devices.set(name, (devices.get(name) ?? 0) + computeMs)
  const [[name, computeMs]] = [...devices].sort((a, b) => b[1] - a[1]) as [[string, number]]
  return { name, computeMs, rate: (1000 * sequences) / (microBatches * computeMs) }
}
