/**
 * How soon the command line speaks: each command from its start to its end, and in a terminal to the first thing that is
 * shown, beside `node -e 0` of the same Node in the same rounds; and a prompt to its first token. What is asked answers as a
 * node does, without computing: at once, or a prompt in a terminal after a second.
 *
 *     npm run bench:cli -- [--rounds N] [--node PATH]
 *
 * `--node` starts the commands with another Node, such as an older one, which starts a second Node for them. Processor time
 * is of all processes of a command together, and holds on a busy machine, too. The rows of a terminal take `script` of
 * util-linux, whose own time is in their baseline as well.
 */
import { spawn, spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { GenerateEvent } from '../../node/api.ts'
import { startHttpServer } from '../../node/http/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { ANSWER, fakeNode } from '../node/http/fake-node.ts'
import { quantile } from './statistics.ts'

const LAUNCHER = fileURLToPath(new URL('../../node/cli/edgeshard.mjs', import.meta.url))
/** Far longer than a command takes to show something. */
const ANSWER_AFTER_MS = 1_000

const { values } = commandOptions(import.meta.url, {
  options: { rounds: { type: 'string' }, node: { type: 'string' } }
})
const rounds = Number(values.rounds ?? 15)
const node = values.node ?? process.execPath

interface Took {
  /** To the end, or to what is shown first. */
  wallMs: number
  /** Of all processes together. */
  cpuMs: number
}

interface Row {
  label: string
  baseline: string
  take(): Promise<Took>
}

/** The shell says afterwards what its children have taken. */
const TIMED = '"$@" >/dev/null 2>&1; times'

/** Runs `command` to its end. */
async function whole(command: string[]): Promise<Took> {
  const startMs = performance.now()
  const child = spawn('sh', ['-c', TIMED, 'sh', ...command], { stdio: ['pipe', 'pipe', 'inherit'] })
  let printed = ''
  child.stdout.on('data', chunk => {
    printed += chunk
  })
  child.stdin.on('error', () => undefined).end('hi\n')
  await new Promise(resolve => child.once('close', resolve))
  const wallMs = performance.now() - startMs
  const times = [
    ...printed
      .trim()
      .split('\n')
      .at(-1)!
      .matchAll(/(\d+)m([\d.]+)s/g)
  ]
  const cpuMs = times.reduce(
    (sum, [, minutes, seconds]) => sum + 60_000 * Number(minutes) + 1000 * Number(seconds),
    0
  )
  return { wallMs, cpuMs }
}

/** Runs `command` in a terminal until that shows something. */
async function shown(command: string[]): Promise<Took> {
  const line = command.map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  const startMs = performance.now()
  const child = spawn('script', ['-qec', line, '/dev/null'], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise(resolve => child.stdout.once('data', resolve))
  const wallMs = performance.now() - startMs
  const closed = new Promise(resolve => child.once('close', resolve))
  child.stdout.resume()
  await closed
  return { wallMs, cpuMs: Number.NaN }
}

/** Runs `command` until it has written something, as a program that reads it sees. */
async function written(command: string[]): Promise<Took> {
  const startMs = performance.now()
  const [program, ...args] = command as [string, ...string[]]
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise(resolve => child.stdout.once('data', resolve))
  const wallMs = performance.now() - startMs
  const closed = new Promise(resolve => child.once('close', resolve))
  child.stdout.resume()
  await closed
  return { wallMs, cpuMs: Number.NaN }
}

const answersLater = fakeNode(async function* (_, signal): AsyncGenerator<GenerateEvent> {
  await sleep(ANSWER_AFTER_MS, undefined, { signal })
  yield* ANSWER
})
await using atOnce = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
await using later = await startHttpServer({ node: answersLater, host: '127.0.0.1', port: 0 })

const end = (label: string, args: string[]): Row => ({
  label,
  baseline: 'node -e 0',
  take: () => whole([node, ...args])
})
const text = (label: string, args: string[]): Row => ({
  label,
  baseline: 'node -e, to what it writes',
  take: () => written([node, ...args])
})
const first = (label: string, args: string[]): Row => ({
  label,
  baseline: 'node -e 0, in a terminal',
  take: () => shown([node, ...args])
})
const rows: Row[] = [
  end('node -e 0', ['-e', '0']),
  end('edgeshard --version', [LAUNCHER, '--version']),
  end('edgeshard peers', [LAUNCHER, 'peers', '--api', atOnce.url]),
  end('edgeshard run', [LAUNCHER, 'run', 'hi', '--api', atOnce.url]),
  end('edgeshard chat', [LAUNCHER, 'chat', '--api', atOnce.url]),
  text('node -e, to what it writes', ['-e', 'process.stdout.write("x")']),
  // The node takes no time for it: all of this is on top of a first token's.
  text('edgeshard run, to its first token', [LAUNCHER, 'run', 'hi', '--api', atOnce.url])
]
if (spawnSync('script', ['--version']).error === undefined) {
  rows.push(
    // What shows that it has ended.
    first('node -e 0, in a terminal', ['-e', 'process.stderr.write("x")']),
    first('edgeshard run, to what is shown first', [LAUNCHER, 'run', 'hi', '--api', later.url]),
    first('edgeshard peers, to what is shown first', [LAUNCHER, 'peers', '--api', later.url])
  )
}

const took = new Map(rows.map(({ label }) => [label, [] as Took[]]))
// The first one compiles for the others.
for (const { take } of rows) await take()
for (let round = 0; round < rounds; round++) {
  for (const { label, take } of rows) took.get(label)!.push(await take())
}

const middle = (label: string, of: keyof Took) =>
  quantile(
    took.get(label)!.map(one => one[of]),
    0.5
  )
const version = spawnSync(node, ['--version'], { encoding: 'utf8' }).stdout.trim()
process.stdout.write(`Node ${version}, the median of ${rounds} rounds, beside node -e 0 of the same rounds\n`)
for (const { label, baseline } of rows) {
  const wallMs = middle(label, 'wallMs')
  const cpuMs = middle(label, 'cpuMs')
  const overMs = wallMs - middle(baseline, 'wallMs')
  const ratio = wallMs / middle(baseline, 'wallMs')
  const cpu = Number.isNaN(cpuMs)
    ? ''
    : `, ${cpuMs.toFixed(0)} ms of a processor, ${(cpuMs - middle(baseline, 'cpuMs')).toFixed(0)} over it`
  process.stdout.write(
    `${label.padEnd(42)}${wallMs.toFixed(0).padStart(6)} ms, ${ratio.toFixed(2)} times, ${overMs.toFixed(0)} ms over it${cpu}\n`
  )
}
