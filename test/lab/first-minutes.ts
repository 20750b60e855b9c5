/**
 * The first minutes of three new devices in one network, as a person has them: from the first `up` to answers of all three,
 * and to one without a device that has left. Prints what was typed where and what was printed, each line with the seconds since the first command.
 *
 * `npm run lab:first-minutes`; needs the right to make network namespaces (root).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { stripVTControlCharacters } from 'node:util'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare } from '../fixtures/nodes.ts'
import { Lab } from './lab.ts'
import { labProblem } from './permitted.ts'

const HOSTS = ['desktop', 'laptop', 'mini-pc']
/** Of what the bundled model needs with a KV cache of its whole context: two devices hold it, and one does not. */
const SHARE = 0.6

const startMs = performance.now()
/** All that was to be seen has been: nodes that are stopped now say so to nobody. */
let isOver = false

function say(host: string, text: string): void {
  if (isOver) return
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1).padStart(6)
  process.stdout.write(`${seconds}  ${host.padEnd(8)}${text}\n`)
}

/** A command that was typed on a host. */
class Typed {
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>
  #text = ''
  #wake: () => void = () => undefined

  /** @param terminal whether it is asked at a terminal, and not only read: what is typed is echoed then */
  constructor(lab: Lab, host: string, args: readonly string[], { terminal = false } = {}) {
    const shown = args.map(arg => (/^[\w./:-]+$/.test(arg) ? arg : JSON.stringify(arg)))
    say(host, `$ edgeshard ${shown.join(' ')}`)
    const [program, words] = lab.commandOf(host, args)
    const command = [program, ...words].map(word => `'${word}'`).join(' ')
    this.#child = terminal
      ? spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'])
      : spawn(program, words)
    this.#ended = once(this.#child, 'close').finally(() => this.#wake())
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on('data', (chunk: Buffer) => {
        this.#text += chunk.toString()
        this.#wake()
      })
      createInterface({ input: stream }).on('line', line => {
        const text = stripVTControlCharacters(line).trimEnd()
        if (text !== '') say(host, `  ${text}`)
      })
    }
  }

  type(text: string): void {
    this.#child.stdin!.write(`${text}\n`)
  }

  /** What was printed, or is to come. */
  async shown(wanted: RegExp): Promise<string> {
    const late = AbortSignal.timeout(deadlineMs(60_000))
    for (;;) {
      const found = wanted.exec(this.#text)
      if (found !== null) return found[1] ?? found[0]
      if (this.#child.exitCode !== null || late.aborted) throw new Error(`nothing was like ${wanted}`)
      await new Promise<void>(resolve => {
        this.#wake = resolve
        late.addEventListener('abort', () => resolve(), { once: true })
      })
    }
  }

  async end(): Promise<void> {
    await this.#ended
    if (this.#child.exitCode !== 0) throw new Error(`the command ended with ${this.#child.exitCode}`)
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal)
    await this.#ended
  }
}

async function run(lab: Lab, host: string, ...args: string[]): Promise<void> {
  await new Typed(lab, host, args).end()
}

/** Digits on the desktop, typed on another device, which then starts its node. */
async function add(lab: Lab, host: string, memory: string): Promise<Typed> {
  const pair = new Typed(lab, HOSTS[0]!, ['pair'])
  const digits = await pair.shown(/\b(\d{3} \d{3})\b/)
  const join = new Typed(lab, host, ['join'], { terminal: true })
  await join.shown(/six digits.*: /)
  join.type(digits)
  await join.end()
  await pair.end()
  const up = new Typed(lab, host, ['up', '--name', host, '--memory', memory])
  await up.shown(/connected: desktop/)
  return up
}

async function play(lab: Lab): Promise<void> {
  const memory = `${Math.ceil((await bundledShare(SHARE)) / 1024)}KiB`
  const nodes: Typed[] = []
  try {
    const [first, ...others] = HOSTS as [string, ...string[]]
    const desktop = new Typed(lab, first, ['up', '--name', first, '--memory', memory])
    nodes.push(desktop)
    await desktop.shown(/http/)
    for (const host of others) nodes.push(await add(lab, host, memory))
    await run(lab, 'laptop', 'peers')
    await run(lab, 'desktop', 'run', 'What does a thermostat do?', '--explain')
    await run(lab, 'mini-pc', 'run', 'What is a pump?')
    await run(lab, 'laptop', 'peers', '--links')
    // What a person does who takes a device away: the others are enough.
    await run(lab, 'laptop', 'drain')
    await run(lab, 'mini-pc', 'run', 'What is a pump?')
  } finally {
    isOver = true
    await Promise.all(nodes.map(node => node.stop('SIGTERM')))
  }
}

const problem = labProblem()
if (problem === null) {
  await using lab = await Lab.create({
    hosts: HOSTS.map(name => ({ name })),
    links: { default: { mbps: 100, latencyMs: 2 } }
  })
  await play(lab)
} else process.stdout.write(`skipped: ${problem}\n`)
