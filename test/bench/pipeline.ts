/**
 * Bubble against no-bubble with 8 sequences over 3 stages, and no-bubble against what its slowest stage could do alone.
 *
 *     npm run bench:pipeline -- [--batch N] [--micro-batches N] [--repeats N] [--cpus SHARE] [--json]
 *
 * Three processes on loopback with one compute thread each hold a third of a model of random weights; `edgeshard bench`
 * asks the first. Where the machine has no processor for each of them and one for the network, control groups hold
 * every process to the same share of one (`--cpus`, 0 for none): else the stages would take each other's time and no
 * pipeline could keep them all busy. Needs a machine with little else to do.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { BenchReport } from '../../node/bench/types.ts'
import { runningNode } from '../../node/cli/api-client.ts'
import { PROFILE_AGAIN_MS } from '../../node/constants.ts'
import { edgeshard } from '../../node/demo/node-process.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { CONTEXT_TOKENS, SECRET, until } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { createQuota } from '../lab/cpu-quota.ts'
import { LabNode } from '../lab/lab-node.ts'
import { pipelineLines } from './pipeline-lines.ts'

const NAMES = ['a', 'b', 'c']
const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
/** TinyLlama 1.1B: a stage computes some milliseconds, against which a hop is little. */
const SHAPE = { decoderLayers: 22, hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 }
/** Shortest that the kernel takes: stages are slow all the time, not in bursts. */
const QUOTA_US = 1000
/** The second timing takes no longer. */
const PROFILE_MS = 10_000
/** Share of what the whole model needs: too little for two of them. */
const MEMORY_SHARE = 0.4

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '8' },
    'micro-batches': { type: 'string', default: String(NAMES.length) },
    repeats: { type: 'string', default: '3' },
    cpus: { type: 'string', default: availableParallelism() > NAMES.length ? '0' : '0.5' },
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
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, slots)
  const memory = weightBytes + ownBytes
  const addresses: string[] = []
  for (const name of NAMES) {
    if (name !== 'a') await cp(join(home('a'), 'store'), join(home(name), 'store'), { recursive: true })
    await admitHome(home(name), SECRET)
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
    const { self, peers } = await (await runningNode({ home: home('a') })).mesh()
    const members = [self, ...peers]
    return (
      members.length === NAMES.length && members.every(({ profiles }) => Object.keys(profiles).length > 0)
    )
  })
  // Devices time their layers once more when their start is over; the planner needs what they really take.
  await delay(PROFILE_AGAIN_MS + PROFILE_MS)
  const what = ['--objective', 'throughput', '--methods', 'edgeshard', '--batch', String(batch)]
  const cut = ['--micro-batches', values['micro-batches']]
  const report = JSON.parse(
    await edgeshard(['bench', '--json', '--home', home('a'), '--repeats', values.repeats, ...what, ...cut])
  ) as BenchReport
  const figures = { processors: availableParallelism(), cpus: quotas.length === 0 ? null : cpus, report }
  say(values.json ? JSON.stringify(figures, null, 1) : pipelineLines(figures).join('\n'))
} finally {
  await Promise.all(nodes.map(node => node.stop()))
  for (const quota of quotas) await quota.remove()
  await rm(folder, { recursive: true, force: true })
}
