/**
 * One answer during which a device joins, a link degrades and a device is drained: real nodes in this process, links over
 * relays that pass so many Mbps, and a reader of 40 tokens a second, since the bundled model would be done before anything has
 * happened. Prints what happened and when the answer went over, in their order, and its gaps as the reader sees them, in ms and in
 * token times: the median between two tokens where it was before. Its tokens have to be those of a lone device. What happens
 * is on stderr while it does.
 *
 *     npm run bench:cutover -- [--tokens N] [--json]
 *
 * Wants a machine with little else to do. Exits with 1 where a token is another one, or the answer was cut.
 */

import type { EdgeNode, GenerateRequest, GenerateResult } from '../../node/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { answer, ask, bundledShare, Nodes } from '../fixtures/nodes.ts'
import { cutoverLines, type Happened, inTokens } from './cutover-lines.ts'
import { bytesPerSecond, joinOver, type RelayedDevice } from './relayed-device.ts'

const { values } = commandOptions(import.meta.url, {
  options: { tokens: { type: 'string', default: '400' }, json: { type: 'boolean', default: false } }
})
const maxTokens = Number(values.tokens)
/** What the source gives: too little for the whole model, and enough for its part twice. */
const SOURCE_SHARE = 0.9
const OTHERS_SHARE = 8
const SLOW_MBPS = 1
const FAST_MBPS = 200
const FALLEN_MBPS = 0.5
/** The answer is never far ahead of its reader. */
const READ_MS = 25
const REQUEST: GenerateRequest = ask('Tell me a story about a robot and a lamp.', {
  ...{ temperature: 0.8, topP: 0.95, seed: 11, maxTokens, ignoreEos: true }
})
const say = (line: string) => void process.stdout.write(`${line}\n`)
const progress = (line: string) => void process.stderr.write(`${line}\n`)
/** Tokens after which it says how far it is. */
const SAID_EVERY = 50
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

async function join(nodes: Nodes, source: EdgeNode, name: string, mbps: number): Promise<RelayedDevice> {
  return await joinOver(nodes, source, { name, memoryBytes: await bundledShare(OTHERS_SHARE) }, mbps)
}

interface Measured {
  result: GenerateResult
  happened: Happened[]
  /** When each token came. */
  atMs: number[]
}

/** The answer, and what happens at a quarter, a half and three quarters of it. */
async function disturbed(nodes: Nodes, source: EdgeNode): Promise<Measured> {
  const happened: Happened[] = []
  const atMs: number[] = []
  const others = new Map<string, RelayedDevice>()
  others.set('b', await join(nodes, source, 'b', SLOW_MBPS))
  const used = () => source.mesh().deployments.flatMap(({ plan }) => plan.stages.map(({ name }) => name))
  const now = (what: string) => {
    happened.push({ what, tokens: atMs.length, atMs: performance.now() })
    progress(`at token ${atMs.length}: ${what}`)
  }
  const work: Promise<unknown>[] = []
  const acts = [
    async () => {
      others.set('c', await join(nodes, source, 'c', FAST_MBPS))
      now('c joins')
      others.set('d', await join(nodes, source, 'd', FAST_MBPS))
      now('d joins')
    },
    async () => {
      const name = used().find(name => others.has(name)) ?? 'c'
      others.get(name)!.relay.bytesPerSecond = bytesPerSecond(FALLEN_MBPS)
      now(`the link of ${name} falls`)
    },
    async () => {
      const name = used().find(name => others.has(name)) ?? 'd'
      now(`${name} is drained`)
      work.push(others.get(name)!.node.drain({ signal: AbortSignal.timeout(120_000), handOver: true }))
    }
  ]
  let result: GenerateResult | undefined
  let drawn = 0
  for await (const event of source.generate(REQUEST)) {
    if (event.type === 'done') result = event.result
    if (event.type === 'moved')
      progress(`at token ${event.move.tokens}: the answer went over, ${event.move.reason}`)
    if (event.type !== 'text') continue
    if (Math.floor((drawn + event.tokens.length) / SAID_EVERY) > Math.floor(drawn / SAID_EVERY))
      progress(`${drawn + event.tokens.length} of ${maxTokens} tokens`)
    drawn += event.tokens.length
    for (let i = atMs.length; i < drawn; i++) atMs.push(performance.now())
    const [act] = acts
    const at = (maxTokens * (4 - acts.length)) / 8
    if (act !== undefined && drawn >= at) {
      acts.shift()
      work.push(act())
    }
    await pause(READ_MS)
  }
  await Promise.all(work)
  for (const { relay } of others.values()) await relay[Symbol.asyncDispose]()
  return { result: result!, happened, atMs }
}

await using nodes = new Nodes()
const source = await nodes.add({ name: 'a', memoryBytes: await bundledShare(SOURCE_SHARE) })
const alone = await nodes.add({ name: 'alone', home: await nodes.home(new Uint8Array(32).fill(6)) })
progress('the same answer on a lone device')
const twin = await answer(alone, REQUEST)
await alone.stop()
progress('the answer that is disturbed')
const { result, happened, atMs } = await disturbed(nodes, source)
const isSame = result.tokens.join() === twin.tokens.join()
const gapsMs = atMs.slice(1).map((ms, i) => ms - atMs[i]!)

const moves = (result.moves ?? []).map(move => ({
  reason: move.reason,
  tokens: move.tokens,
  from: move.from.map(({ name }) => name).join(' > '),
  to: move.to.map(({ name }) => name).join(' > '),
  ...move.predicted,
  ...move.spent,
  gapTokens: inTokens(gapsMs, { gapMs: move.spent.gapMs, tokens: move.tokens })
}))
if (values.json) say(JSON.stringify({ isSame, recoveries: result.recoveries, happened, moves, gapsMs }))
else {
  say(
    `${result.tokens.length} tokens, ${isSame ? 'those' : 'NOT those'} of a lone device; ${result.recoveries} recoveries`
  )
  for (const line of cutoverLines({ happened, moves, gapsMs })) say(line)
}
if (!isSame || result.finishReason === 'error') process.exitCode = 1
