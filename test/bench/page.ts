/**
 * What the page takes: the time from opening it to the picture of the devices, processor time of its window while nothing
 * changes and while an answer's steps come in ten times a second, and a token's time with the page open over that without,
 * beside what a program costs that reads the same events. Three nodes share the bundled model on loopback, each a process. Its answers
 * are over within two seconds, so that what an answer's beginning and end cost is much of them: what ten updates a second cost is
 * measured within a long answer of a node that is made up.
 *
 *     npm run bench:page -- [--rounds N]
 *
 * The page's share of a core is its thread's. What all processes of Chromium take stands beside it: it has no GPU here, so a
 * processor draws. Where browser and nodes share two cores, a token's time with the page open says more of that than of the page.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Page } from 'playwright-core'
import { type Client, createClient } from '../../node/client/index.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { startHttpServer } from '../../node/http/index.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { CHROMIUM, startBrowser } from '../fixtures/browser.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { bundledShare, SECRET, until } from '../fixtures/nodes.ts'
import { fakeNode } from '../node/http/fake-node.ts'
import { evenAnswer, meshOfThree } from './even-answer.ts'
import { quantile } from './statistics.ts'

interface Took {
  /** Time a token. */
  tokenMs: number
  cpuMs: number
}

const NAMES = ['desktop', 'laptop', 'mini-pc']
/** Of what the model needs, so that it takes three devices. */
const SHARE = 0.44
const IDLE_MS = 10_000
const SETTLED_MS = 3_000
/** A mesh that has just met measures its links again, exactly, and is quiet when none has changed for so long. */
const QUIET_POLLS = 20
const POLL_MS = 1_000
const QUIET_TIMEOUT_MS = 120_000
const NEW_TOKENS = 200
/** Within a long answer, when it is measured. */
const STEADY_AFTER_MS = 2_000
const STEADY_MS = 10_000
const STEADY_ROUNDS = 3

const { values } = commandOptions(import.meta.url, { options: { rounds: { type: 'string', default: '7' } } })
const rounds = Number(values.rounds)
const say = (line: string) => process.stdout.write(`${line}\n`)
const median = (numbers: number[]) => quantile(numbers, 0.5)

if (CHROMIUM === undefined) throw new Error('there is no Chromium here (Debian: apt-get install chromium)')
const folder = await mkdtemp(join(tmpdir(), 'edgeshard-page-'))
const nodes: NodeProcess[] = []
const browser = await startBrowser()
try {
  const memory = await bundledShare(SHARE)
  for (const [at, name] of NAMES.entries()) {
    const home = join(folder, name)
    await admitHome(home, SECRET)
    const peers = nodes.flatMap(({ addresses }) => ['--peer', addresses[0]!])
    const common = ['--home', home, '--name', name, '--no-mdns', '--port', '0', '--api', '127.0.0.1:0']
    const bundled = at === 0 ? [] : ['--no-bundled']
    nodes.push(await NodeProcess.start([...common, '--memory', String(memory), ...bundled, ...peers]))
  }
  const [source] = nodes as [NodeProcess]
  await until(async () => (await source.mesh()).peers.filter(({ connected }) => connected).length === 2)
  const client = createClient({ url: source.api })
  /** An answer, and what of a processor its node takes for that. */
  const answer = async (): Promise<Took> => {
    const input = { kind: 'raw', text: 'A pump' } as const
    const before = cpuMs(source.pid)
    for await (const event of client.generate({ input, maxTokens: NEW_TOKENS, ignoreEos: true })) {
      if (event.type === 'done') return { tokenMs: event.result.tpotMs, cpuMs: cpuMs(source.pid) - before }
    }
    throw new Error('the answer did not end')
  }
  await answer()

  const [shownMs, emptyMs]: [number[], number[]] = [[], []]
  for (let i = 0; i < rounds; i++) {
    emptyMs.push(await openedMs(`${source.api}/page/icon.svg`, page => page.locator('svg').waitFor()))
    shownMs.push(await openedMs(source.api, devicesShown))
  }
  say(
    `the devices are shown ${median(shownMs).toFixed(0)} ms after opening, at most ${Math.max(...shownMs).toFixed(0)}; a picture alone ${median(emptyMs).toFixed(0)}`
  )

  await linksAreQuiet(source)
  const page = await browser.newPage()
  const open = async () => {
    await page.goto(source.api)
    await devicesShown(page)
    await sleep(SETTLED_MS)
  }
  await open()
  await page.evaluate(`window.changes = 0
    new MutationObserver(all => { window.changes += all.length }).observe(document.body, {
      subtree: true, childList: true, attributes: true, characterData: true })`)
  const idle = await windowShare(page, () => sleep(IDLE_MS))
  const changes = await page.evaluate<number>('window.changes')
  say(
    `while nothing changes: ${percent(idle)} of a core, ${changes} changes of the document in ${IDLE_MS / 1000} s`
  )

  await page.goto('about:blank')
  const steady: number[] = []
  for (let i = 0; i < STEADY_ROUNDS; i++) steady.push(await steadyShare())
  say(`while its own chat writes 100 tokens a second: ${percent(median(steady))} of a core`)
  await open()

  const answers: Record<'alone' | 'followed' | 'drawn', Took[]> = { alone: [], followed: [], drawn: [] }
  const [drawing, chatting]: [number[], number[]] = [[], []]
  const browsers: Record<'drawing' | 'chatting', number[]> = { drawing: [], chatting: [] }
  for (let i = 0; i < rounds; i++) {
    const drawn = async () => void answers.drawn.push(await answer())
    browsers.drawing.push(await browserShare(async () => void drawing.push(await windowShare(page, drawn))))
    await page.getByRole('button', { name: 'New', exact: true }).click()
    await page.getByLabel('Your question').fill('Tell me a story about a robot and a lamp.')
    const chatted = () => asked(page)
    browsers.chatting.push(
      await browserShare(async () => void chatting.push(await windowShare(page, chatted)))
    )
    await page.goto('about:blank')
    answers.alone.push(await answer())
    answers.followed.push(await followed(client, answer))
    await open()
  }
  say(
    `while another program's answer is drawn: ${percent(median(drawing))} of a core; one of its own chat: ${percent(median(chatting))}`
  )
  say(
    `all processes of the browser meanwhile: ${percent(median(browsers.drawing))}, and ${percent(median(browsers.chatting))}`
  )
  const over = (of: 'followed' | 'drawn', what: keyof Took) => {
    const [those, alone] = [answers[of], answers.alone].map(all => median(all.map(one => one[what])))
    return (those! / alone!).toFixed(2)
  }
  say(
    `with the page open over without: ${over('drawn', 'tokenMs')} times a token's time, ${over('drawn', 'cpuMs')} times the node's processor time`
  )
  say(
    `with a program in its place that reads the same events and draws nothing: ${over('followed', 'tokenMs')} times, ${over('followed', 'cpuMs')} times`
  )
} finally {
  await browser.close()
  await Promise.all(nodes.map(node => node.stop()))
  await rm(folder, { recursive: true, force: true })
}

/** What a process has taken of processors so far, in ticks of 10 ms; only Linux says it. */
function cpuMs(pid: number): number {
  if (process.platform !== 'linux') return Number.NaN
  // Behind the name in brackets: user and system time are the 14th and 15th field.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')
  return 10 * (Number(fields[11]) + Number(fields[12]))
}

/** Of one core, what all processes of the browsers that this one has started take while `work` is done. */
async function browserShare(work: () => Promise<void>): Promise<number> {
  const [startMs, before] = [performance.now(), browserCpuMs()]
  await work()
  return (browserCpuMs() - before) / (performance.now() - startMs)
}

function browserCpuMs(): number {
  if (process.platform !== 'linux') return Number.NaN
  const all = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  const known = new Map(all.map(pid => [pid, statusOf(pid)]))
  const isOurs = (pid: string): boolean =>
    pid === `${process.pid}` || (known.has(pid) && isOurs(known.get(pid)!.parent))
  const browsers = [...known].filter(([pid, { name }]) => name.startsWith('chrom') && isOurs(pid))
  return browsers.reduce((sum, [, status]) => sum + status.cpuMs, 0)
}

/** A process's name, parent and time so far. */
function statusOf(pid: string): { name: string; parent: string; cpuMs: number } {
  try {
    const [, name = '', parent = ''] =
      /\((.*)\) \S (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
    return { name, parent, cpuMs: cpuMs(Number(pid)) }
  } catch {
    // It has ended since it was listed: it is none of those that are counted.
    return { name: '', parent: '', cpuMs: 0 }
  }
}

async function devicesShown(page: Page): Promise<void> {
  await page.getByText('3 devices, live').waitFor()
  await page.locator('svg[role=img] .card').nth(2).waitFor()
}

async function linksAreQuiet(node: NodeProcess): Promise<void> {
  const endMs = performance.now() + QUIET_TIMEOUT_MS
  let before = ''
  for (let same = 0; same < QUIET_POLLS; same++) {
    const { links } = await node.mesh()
    const figures = links.map(({ from, to, mbps, rttMs }) => `${from} ${to} ${mbps} ${rttMs}`).join()
    if (figures !== before) same = 0
    before = figures
    if (performance.now() > endMs)
      throw new Error('the links of three idle nodes are measured again and again')
    await sleep(POLL_MS)
  }
}

/** From opening an address in a browser that knows nothing of it, until it shows what it is to show. */
async function openedMs(url: string, isShown: (page: Page) => Promise<void>): Promise<number> {
  const context = await browser.newContext()
  try {
    const page = await context.newPage()
    const startMs = performance.now()
    await page.goto(url, { waitUntil: 'commit' })
    await isShown(page)
    return performance.now() - startMs
  } finally {
    await context.close()
  }
}

/** Sends what is typed in the page's own chat, until the answer is there. A locator that waits would ask the page each frame. */
async function asked(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Send' }).click()
  await page.evaluate(`new Promise(resolve => {
    const timer = setInterval(() => {
      if (document.querySelector('.figures') === null) return
      clearInterval(timer)
      resolve()
    }, 100)
  })`)
}

/** Of one core, what the page's thread takes within a long answer to its own question. */
async function steadyShare(): Promise<number> {
  const made = fakeNode((_, signal) => evenAnswer(signal))
  const server = await startHttpServer({
    node: { ...made, mesh: () => meshOfThree(made.mesh()) },
    host: '127.0.0.1',
    port: 0
  })
  const page = await browser.newPage()
  try {
    await page.goto(server.url)
    await devicesShown(page)
    await page.getByLabel('Your question').fill('Tell me a long story.')
    await page.keyboard.press('Enter')
    await sleep(STEADY_AFTER_MS)
    return await windowShare(page, () => sleep(STEADY_MS))
  } finally {
    await page.close()
    await server.stop()
  }
}

/** The work, while a program reads all events of the node as a page does. */
async function followed<T>(client: Client, work: () => Promise<T>): Promise<T> {
  const abort = new AbortController()
  const events = client.changes({ signal: abort.signal })
  await events.next()
  const reading = (async () => {
    for await (const _ of events);
  })()
  try {
    return await work()
  } finally {
    abort.abort()
    // It ends with the abort that it was told of.
    await reading.catch(() => undefined)
  }
}

/** Of one core, what the page's thread takes of a processor while `work` is done: while others have it, it takes none. */
async function windowShare(page: Page, work: () => Promise<void>): Promise<number> {
  const session = await page.context().newCDPSession(page)
  await session.send('Performance.enable', { timeDomain: 'threadTicks' })
  const busySeconds = async () => {
    const { metrics } = await session.send('Performance.getMetrics')
    return metrics.find(({ name }) => name === 'TaskDuration')!.value
  }
  const [startMs, before] = [performance.now(), await busySeconds()]
  await work()
  const share = (1000 * ((await busySeconds()) - before)) / (performance.now() - startMs)
  await session.detach()
  return share
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
