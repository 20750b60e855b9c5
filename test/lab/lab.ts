import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { deadlineMs } from '../fixtures/machine.ts'
import { createQuota } from './cpu-quota.ts'
import { LabNode } from './lab-node.ts'
import { type LabLinks, type LabScenario, labScenario, meshlinkLines } from './scenario.ts'

const run = promisify(execFile)
const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
const MESHLINK = new URL('./meshlink.c', import.meta.url).pathname

/**
 * Devices on one machine: a network namespace each, joined by meshlink with a delay and a bandwidth per pair, and a
 * control group where a device's processor is to be slow. Nodes in it are started from the real command line.
 *
 * @example
 * ```ts
 * await using lab = await Lab.create({ hosts: [{ name: 'a' }, { name: 'b' }] })
 * const a = await lab.up('a')
 * await lab.cli('a', ['invite'])
 * await lab.unplug('b')
 * ```
 */
export class Lab implements AsyncDisposable {
  readonly #folder: string
  #links: LabLinks
  readonly #hosts: ReturnType<typeof labScenario.parse>['hosts']
  readonly #unplugged = new Set<string>()
  readonly #undo: (() => Promise<unknown>)[] = []
  readonly #nodes: LabNode[] = []
  readonly #clis = new Map<string, string>()
  #meshlink: ChildProcess | undefined
  #relinked: Promise<void> = Promise.resolve()

  static async create(scenario: LabScenario): Promise<Lab> {
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'eslab-')), labScenario.parse(scenario))
    try {
      await lab.#build()
      return lab
    } catch (error) {
      await lab.stop()
      throw error
    }
  }

  private constructor(folder: string, { hosts, links }: ReturnType<typeof labScenario.parse>) {
    this.#folder = folder
    this.#hosts = hosts
    this.#links = links
  }

  /** Home directory of a host's node. */
  home(host: string): string {
    return join(this.#folder, host)
  }

  /** Address of a host on the lab's network. */
  address(host: string): string {
    return `10.77.0.${this.#hosts.findIndex(({ name }) => name === host) + 1}`
  }

  /** The command line that enters a host, for a person. */
  entry(host: string): string {
    return `nsenter --net=/run/netns/${this.#namespace(host)} env EDGESHARD_HOME=${this.home(host)} $SHELL`
  }

  /** Another command line than this checkout's on a host: that of another version. */
  use(host: string, cli: string): void {
    this.#clis.set(host, cli)
  }

  /** Starts `edgeshard up` on a host and waits until it is ready. */
  async up(host: string, args: string[] = []): Promise<LabNode> {
    const { memory, cpus, cpuPeriodUs } = this.#hosts.find(({ name }) => name === host)!
    const group = `eslab-${process.pid}-${host}`
    const quota = cpus === undefined ? null : await createQuota(group, cpus, cpuPeriodUs)
    if (quota !== null) this.#undo.push(() => quota.remove())
    const options = memory === undefined ? [] : ['--memory', memory]
    const enter = quota === null ? '' : `echo $$ > ${quota.procs}; `
    const node = new LabNode(host, 'nsenter', [
      `--net=/run/netns/${this.#namespace(host)}`,
      'sh',
      '-c',
      `${enter}exec "$@"`,
      'sh',
      process.execPath,
      this.#cli(host),
      'up',
      '--json',
      ...['--home', this.home(host), '--name', host, '--no-bundled', ...options, ...args]
    ])
    this.#nodes.push(node)
    await node.ready()
    return node
  }

  /** A program and its arguments that are a command of ours on a host, with its home. */
  commandOf(host: string, args: readonly string[]): [program: string, args: string[]] {
    const net = `--net=/run/netns/${this.#namespace(host)}`
    return ['nsenter', [net, process.execPath, this.#cli(host), ...args, '--home', this.home(host)]]
  }

  /** Runs a command of ours on a host, with its home; resolves with what it printed. */
  async cli(host: string, args: string[], input = ''): Promise<string> {
    const child = run(...this.commandOf(host, args), { timeout: deadlineMs(60_000) })
    child.child.stdin?.end(input)
    return (await child).stdout
  }

  #cli(host: string): string {
    return this.#clis.get(host) ?? CLI
  }

  /** Runs any program on a host. */
  async exec(host: string, command: string, args: string[]): Promise<string> {
    const inside = [`--net=/run/netns/${this.#namespace(host)}`, command, ...args]
    return (await run('nsenter', inside, { timeout: deadlineMs(120_000) })).stdout
  }

  /** Starts a program on a host that runs until the lab stops; resolves with the first line it prints. */
  async background(host: string, command: string, args: string[]): Promise<string> {
    const inside = [`--net=/run/netns/${this.#namespace(host)}`, command, ...args]
    const child = spawn('nsenter', inside, { stdio: ['ignore', 'pipe', 'inherit'] })
    const exit = once(child, 'exit')
    this.#undo.push(async () => {
      child.kill('SIGTERM')
      await exit
    })
    for await (const line of createInterface({ input: child.stdout })) return line
    throw new Error(`${command} ${args.join(' ')} on ${host} ended without a line`)
  }

  /** Other links from now on, for connections that exist too. */
  async setLinks(links: LabScenario['links']): Promise<void> {
    this.#links = labScenario.parse({ hosts: this.#hosts, links }).links
    await this.#relink()
  }

  async unplug(host: string): Promise<void> {
    this.#unplugged.add(host)
    await this.#relink()
  }

  async plug(host: string): Promise<void> {
    this.#unplugged.delete(host)
    await this.#relink()
  }

  /** Bytes that a host has sent on the lab's network. */
  async bytesSent(host: string): Promise<number> {
    const text = await this.exec(host, 'cat', ['/proc/net/dev'])
    const fields = /mesh0:\s*(.*)/.exec(text)?.[1]?.split(/\s+/)
    return Number(fields?.[8])
  }

  async stop(): Promise<void> {
    await Promise.all(this.#nodes.map(node => node.stop()))
    if (this.#meshlink?.exitCode === null) {
      const exit = once(this.#meshlink, 'exit')
      this.#meshlink.kill('SIGTERM')
      await exit
    }
    for (const undo of this.#undo.toReversed()) await undo().catch(() => {})
    await rm(this.#folder, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #namespace(host: string): string {
    return `eslab${process.pid}-${host}`
  }

  async #build(): Promise<void> {
    const program = join(this.#folder, 'meshlink')
    await run('cc', ['-O2', '-o', program, MESHLINK])
    for (const { name } of this.#hosts) {
      const namespace = this.#namespace(name)
      await run('ip', ['netns', 'add', namespace])
      this.#undo.push(() => run('ip', ['netns', 'del', namespace]))
      await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
    }
    const file = await this.#writeLinks()
    const namespaces = this.#hosts.map(({ name }) => this.#namespace(name))
    this.#meshlink = spawn(program, [file, ...namespaces], { stdio: ['ignore', 'pipe', 'ignore'] })
    const ready = once(this.#meshlink.stdout!, 'data')
    const failed = once(this.#meshlink, 'exit').then(([code]) => {
      throw new Error(`meshlink ended with ${code}`)
    })
    await Promise.race([ready, failed])
    failed.catch(() => {})
  }

  async #writeLinks(): Promise<string> {
    const file = join(this.#folder, 'links.txt')
    await writeFile(
      file,
      meshlinkLines(this.#links, host => this.#namespace(host), this.#unplugged)
    )
    return file
  }

  /** One at a time: two cables that are plugged in at once must not write the file at once. */
  #relink(): Promise<void> {
    this.#relinked = this.#relinked.then(async () => {
      await this.#writeLinks()
      this.#meshlink?.kill('SIGHUP')
    })
    return this.#relinked
  }
}

/** A scenario from a file. */
export async function readScenario(path: string): Promise<LabScenario> {
  return labScenario.parse(JSON.parse(await readFile(path, 'utf8')))
}
