/**
 * What ten thousand connection attempts of a stranger cost a running answer.
 *
 *     node test/bench/strangers.ts [-- --attempts N]
 *
 * Three nodes on loopback, each a process of its own. Answers undisturbed and answers while the stranger, at the lowest
 * priority because on a mesh it has a processor of its own, knocks at all three, take turns.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { NodeProcess } from '../../node/demo/node-process.ts'
import type { EdgeNode } from '../../node/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { ask, bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'

const STRANGER = new URL('./stranger.ts', import.meta.url).pathname
const ROUNDS = 5
/** On a mesh the stranger has a processor of its own; here it gets what the nodes leave, also where sessions share evenly. */
const LOWEST_PRIORITY = 'echo 19 > /proc/self/autogroup; exec nice -n 19 "$@"'
const { values } = commandOptions(import.meta.url, {
  options: { attempts: { type: 'string', default: '10000' } }
})
const attempts = Number(values.attempts)

/** Milliseconds a token of one answer, without its first. */
async function tpotMs(node: EdgeNode): Promise<number> {
  const request = ask('Tell me a story about a robot and a lamp.', {
    maxTokens: 200,
    temperature: 1,
    seed: 3
  })
  for await (const event of node.generate(request)) if (event.type === 'done') return event.result.tpotMs
  throw new Error('the answer ended without a result')
}

/** Answers until `enough` says so. */
async function answers(node: EdgeNode, enough: (count: number) => boolean): Promise<number[]> {
  const all: number[] = []
  while (!enough(all.length)) all.push(await tpotMs(node))
  return all
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
}

await using nodes = new Nodes()
const children: NodeProcess[] = []
try {
  const memoryBytes = await bundledShare(0.42)
  const source = await nodes.add({ name: 'source', memoryBytes })
  for (const name of ['b', 'c']) {
    const where = ['--home', await nodes.home(SECRET), '--name', name, '--port', '0', '--api', '127.0.0.1:0']
    const what = ['--no-mdns', '--no-bundled', '--memory', String(memoryBytes), '--threads', '1']
    const peers = [source.addresses[0]!, ...children.map(child => child.addresses[0]!)]
    children.push(await NodeProcess.start([...where, ...what, ...peers.flatMap(peer => ['--peer', peer])]))
  }
  await until(() => source.mesh().peers.filter(peer => peer.connected).length === 2)
  await answers(source, count => count === 5)

  const addresses = [source, ...children].map(node => node.addresses[0]!)
  const quiet: number[] = []
  const knocked: number[] = []
  let seconds = 0
  for (let round = 0; round < ROUNDS; round++) {
    quiet.push(...(await answers(source, count => count === 5)))
    const startMs = performance.now()
    const command = [process.execPath, STRANGER, String(attempts / ROUNDS), ...addresses]
    const stranger = spawn('setsid', ['--wait', 'sh', '-c', LOWEST_PRIORITY, 'sh', ...command], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    let ended = false
    const exit = once(stranger, 'exit').then(() => {
      ended = true
    })
    const said = text(stranger.stdout)
    knocked.push(...(await answers(source, () => ended)))
    await exit
    seconds += (performance.now() - startMs) / 1000
    console.log(`round ${round + 1}: ${await said}`)
  }
  console.log(`${attempts} attempts in ${seconds.toFixed(1)} s, ${(attempts / seconds).toFixed(0)} a second`)
  console.log(`ms a token: undisturbed ${median(quiet).toFixed(2)} (${quiet.length} answers), `)
  console.log(`            knocked at  ${median(knocked).toFixed(2)} (${knocked.length} answers)`)
  console.log(`ratio       ${(median(knocked) / median(quiet)).toFixed(3)} (aim: 1.10)`)
} finally {
  await Promise.all(children.map(child => child.stop()))
}
