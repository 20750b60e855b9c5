/**
 * What the mesh adds to computing: time per hop, the network thread's longest gap, time to be ready and connected.
 *
 *     npm run bench:hops -- [--seconds N]   (the gap is watched for N seconds, 30 by default)
 *
 * The one-node and the three-node answers take turns, so that a slow moment of the machine meets both.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { NodeProcess } from '../../node/demo/node-process.ts'
import type { EdgeNode } from '../../node/index.ts'
import type { MeasuredStep } from '../../node/source/pipeline/measured.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { ask, bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'

const ROUNDS = 8
const { values } = commandOptions(import.meta.url, {
  options: { seconds: { type: 'string', default: '30' } }
})

const request = (maxTokens: number) =>
  ask('Tell me a story about a robot and a lamp.', { maxTokens, temperature: 1, topP: 1, seed: 3 })

/** Milliseconds between tokens that came one by one, and what the stages say of each step. */
async function gapsMs(node: EdgeNode, steps: MeasuredStep[] = []): Promise<number[]> {
  const gaps: number[] = []
  let before: number | undefined
  for await (const event of node.generate(request(120))) {
    if (event.type === 'done') steps.push(event.result.measured)
    if (event.type !== 'text') continue
    const now = performance.now()
    if (before !== undefined && event.tokens.length === 1) gaps.push(now - before)
    before = now
  }
  return gaps
}

/** Mean of each part of a step, over the answers. */
function parts(steps: MeasuredStep[]): string {
  const means = (part: (step: MeasuredStep) => number[]) =>
    part(steps[0]!).map((_, i) => {
      const ms = steps.map(step => part(step)[i]!)
      return (ms.reduce((sum, one) => sum + one, 0) / ms.length).toFixed(2)
    })
  const computeMs = means(({ stages }) => stages.map(stage => stage.computeMs))
  const waitMs = means(({ stages }) => stages.map(stage => stage.waitMs))
  const linksMs = means(step => step.linksMs)
  return `compute ${computeMs.join(' + ')}, to the thread and back ${waitMs.join(' + ')}, links ${linksMs.join(' + ')}`
}

function quantile(values: number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

await using nodes = new Nodes()
const children: NodeProcess[] = []
try {
  // One thread each, as in the three-node mesh: what differs is the hops.
  const alone = await nodes.add({ name: 'alone' })
  const memoryBytes = await bundledShare(0.42)
  const source = await nodes.add({ name: 'source', memoryBytes })
  const spawnedMs = performance.now()
  for (const name of ['b', 'c']) {
    const home = await nodes.home(SECRET)
    const where = [
      '--home',
      home,
      '--name',
      name,
      '--port',
      '0',
      '--api',
      '127.0.0.1:0',
      '--no-mdns',
      '--no-bundled'
    ]
    const what = ['--memory', String(memoryBytes), '--threads', '1']
    const peers = [source.addresses[0]!, ...children.map(child => child.addresses[0]!)]
    children.push(await NodeProcess.start([...where, ...what, ...peers.flatMap(peer => ['--peer', peer])]))
  }
  const readyMs = performance.now()
  await until(() => source.mesh().peers.filter(peer => peer.connected).length === 2)
  const connectedMs = performance.now()
  console.log(
    `two nodes started one after the other: ${((readyMs - spawnedMs) / 2).toFixed(0)} ms each until ready`
  )
  console.log(`all connected ${(connectedMs - readyMs).toFixed(0)} ms after the last ready\n`)

  const one: number[] = []
  const three: number[] = []
  const [oneSteps, threeSteps]: MeasuredStep[][] = [[], []]
  await gapsMs(alone)
  await gapsMs(source)
  for (let round = 0; round < ROUNDS; round++) {
    one.push(...(await gapsMs(alone, oneSteps)))
    three.push(...(await gapsMs(source, threeSteps)))
  }
  console.log('ms a token            median     p99   tokens')
  for (const [name, gaps] of [
    ['one process', one],
    ['three on loopback', three]
  ] as const) {
    const [median, p99] = [quantile(gaps, 0.5), quantile(gaps, 0.99)]
    console.log(
      `${name.padEnd(20)} ${median.toFixed(2).padStart(7)} ${p99.toFixed(2).padStart(7)} ${String(gaps.length).padStart(8)}`
    )
  }
  console.log(`one process: ${parts(oneSteps!)}`)
  console.log(`three: ${parts(threeSteps!)}\n`)
  const hops = 3
  const perHop = (q: number) => ((quantile(three, q) - quantile(one, q)) / hops).toFixed(2)
  console.log(
    `overhead a hop       ${perHop(0.5).padStart(7)} ${perHop(0.99).padStart(7)}   (source -> b -> c -> source)`
  )
  console.log(`ratio three : one    ${(quantile(three, 0.5) / quantile(one, 0.5)).toFixed(2).padStart(7)}\n`)

  const delay = monitorEventLoopDelay({ resolution: 1 })
  const endMs = performance.now() + Number(values.seconds) * 1000
  delay.enable()
  while (performance.now() < endMs) await gapsMs(source)
  delay.disable()
  const ms = (ns: number) => (ns / 1e6).toFixed(1)
  console.log(
    `source's network thread over ${values.seconds} s of answers: longest gap ${ms(delay.max)} ms, p99 ${ms(delay.percentile(99))} ms`
  )
} finally {
  await Promise.all(children.map(child => child.stop()))
}
