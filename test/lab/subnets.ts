/**
 * Two devices in two subnets with a router between that lets through one port alone: who is behind it may open connections
 * to 7446 of the other, and nobody may the other way. They have to become one mesh that answers with a model neither
 * holds alone, and the second leaves by `edgeshard drain`. Options come by file and by environment, as a service has them.
 *
 * `npm run lab:subnets`; needs the right to make network namespaces (root).
 */
import { execFile, spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare, until } from '../fixtures/nodes.ts'

const run = promisify(execFile)
const CLI = new URL('../../node/cli/main.ts', import.meta.url).pathname
const PORT = 7446
const LINKS = [
  { host: 'a', own: '10.81.0.2', router: '10.81.0.1' },
  { host: 'b', own: '10.82.0.2', router: '10.82.0.1' }
]
/** What the router does with packets; the ports of answers are none of these. */
const RULES = [
  `iif ra to 10.82.0.0/24 ipproto tcp dport ${PORT} blackhole`,
  `iif rb to 10.81.0.0/24 ipproto tcp dport ${PORT} lookup main`,
  'iif rb to 10.81.0.0/24 blackhole'
]

const nameOf = (host: string) => `edgeshard-subnets-${process.pid}-${host}`
const ip = (...args: string[]) => run('ip', args)

async function buildNetwork(): Promise<void> {
  for (const host of ['a', 'r', 'b']) {
    await ip('netns', 'add', nameOf(host))
    await ip('-n', nameOf(host), 'link', 'set', 'lo', 'up')
  }
  const router = nameOf('r')
  for (const { host, own, router: gateway } of LINKS) {
    const ends = ['link', 'add', 'eth0', 'netns', nameOf(host), 'type', 'veth', 'peer', 'name', `r${host}`]
    await ip(...ends, 'netns', router)
    await ip('-n', nameOf(host), 'addr', 'add', `${own}/24`, 'dev', 'eth0')
    await ip('-n', router, 'addr', 'add', `${gateway}/24`, 'dev', `r${host}`)
    await ip('-n', nameOf(host), 'link', 'set', 'eth0', 'up')
    await ip('-n', router, 'link', 'set', `r${host}`, 'up')
    await ip('-n', nameOf(host), 'route', 'add', 'default', 'via', gateway)
  }
  await ip('netns', 'exec', router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
  for (const [at, rule] of RULES.entries()) {
    await ip('-n', router, 'rule', 'add', 'pref', String(10 + at), ...rule.split(' '))
  }
}

/** Starts a command in a host's namespace; resolves with a way to its end when it has printed that it is ready. */
async function up(host: string, args: string[], env: Record<string, string> = {}) {
  const words = ['netns', 'exec', nameOf(host), process.execPath, CLI, 'up', '--json', ...args]
  const child = spawn('ip', words, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise<number | null>(resolve => child.on('exit', resolve))
  let ready = false
  createInterface(child.stdout).on('line', line => {
    ready ||= line.includes('"event":"ready"')
  })
  await until(() => ready)
  return { child, exited }
}

const edgeshard = async (host: string, ...args: string[]) =>
  (await run('ip', ['netns', 'exec', nameOf(host), process.execPath, CLI, ...args])).stdout

function say(what: string): void {
  process.stdout.write(`${what}\n`)
}

const folder = await mkdtemp(join(tmpdir(), 'eslab-'))
const started: { child: ReturnType<typeof spawn>; exited: Promise<number | null> }[] = []
const late = setTimeout(() => process.exit(1), deadlineMs(180_000)).unref()
try {
  await buildNetwork()
  const memory = await bundledShare(0.7)
  const [homeA, homeB, config, audit] = ['a', 'b', 'a.json', 'audit.log'].map(name => join(folder, name))
  await writeFile(config!, JSON.stringify({ name: 'a', home: homeA, memory, 'audit-log': audit }))
  started.push(await up('a', ['--config', config!]))
  const { ticket } = JSON.parse(await edgeshard('a', 'invite', '--json', '--home', homeA!)) as {
    ticket: string
  }
  await edgeshard('b', 'join', ticket, '--home', homeB!)
  const env = {
    EDGESHARD_PEER: `/ip4/${LINKS[0]!.own}/tcp/${PORT}`,
    EDGESHARD_MEMORY: String(memory),
    EDGESHARD_BUNDLED: '0'
  }
  const b = await up('b', ['--home', homeB!, '--name', 'b'], env)
  started.push(b)
  const isReady = async () => {
    const { stdout } = await run('ip', ['netns', 'exec', nameOf('a'), 'curl', '-s', '127.0.0.1:7447/readyz'])
    return (JSON.parse(stdout) as { ready: boolean }).ready
  }
  await until(isReady)
  say('one mesh through one open port; /readyz is 200')
  const asked = await edgeshard(
    'a',
    'run',
    'What is a pump?',
    '--max-tokens',
    '20',
    '--home',
    homeA!,
    '--json'
  )
  const { text, plan } = JSON.parse(asked) as { text: string; plan: { stages: { name: string }[] } }
  say(`answered by ${plan.stages.map(({ name }) => name).join(' and ')}: ${text}`)
  if (plan.stages.length < 2) throw new Error('the answer did not cross the router')
  say(`accounted for: ${(await readFile(audit!, 'utf8')).trim()}`)
  say((await edgeshard('b', 'drain', '--home', homeB!)).trim())
  if ((await b.exited) !== 0) throw new Error('the drained node did not end with 0')
  await until(async () => !(await isReady()))
  say('b is gone, and a says that it is not ready')
} finally {
  for (const { child, exited } of started) {
    child.kill('SIGTERM')
    await exited
  }
  for (const host of ['a', 'r', 'b']) await ip('netns', 'del', nameOf(host)).catch(() => undefined)
  await rm(folder, { recursive: true, force: true })
  clearTimeout(late)
}
