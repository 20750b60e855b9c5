/**
 * What the page takes: the time from opening it to the picture of the devices, processor time of its window while nothing
 * changes and while an answer's steps come in ten times a second, and a token's time with the page open over that without.
 * Three nodes share the bundled model on loopback, each a process.
 *
 *     npm run bench:page -- [--rounds N]
 *
 * Chromium's own other processes (it has no GPU here, so a processor draws) are not counted. Where browser and nodes share two
 * cores, the last figure says more of that than of the page.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Page } from 'playwright-core'
import { createClient } from '../../node/client/index.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { CHROMIUM, startBrowser } from '../fixtures/browser.ts'
import { bundledShare, SECRET, until } from '../fixtures/nodes.ts'
import { quantile } from './statistics.ts'

const NAMES = ['desktop', 'laptop', 'mini-pc']
/** Of what the model needs, so that it takes three devices. */
const SHARE = 0.44
const IDLE_MS = 10_000
const SETTLED_MS = 3_000
const NEW_TOKENS = 200

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' } } })
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
  /** Time a token of one answer, ms. */
  const answerMs = async (): Promise<number> => {
    const input = { kind: 'raw', text: 'A pump' } as const
    for await (const event of client.generate({ input, maxTokens: NEW_TOKENS, ignoreEos: true })) {
      if (event.type === 'done') return event.result.tpotMs
    }
    throw new Error('the answer did not end')
  }
  await answerMs()

  const shownMs: number[] = []
  for (let i = 0; i < rounds; i++) {
    const context = await browser.newContext()
    const page = await context.newPage()
    const startMs = performance.now()
    await page.goto(source.api, { waitUntil: 'commit' })
    await page.getByText('3 devices, live').waitFor()
    await page.locator('svg[role=img]').first().waitFor()
    shownMs.push(performance.now() - startMs)
    await context.close()
  }
  say(
    `the devices are shown ${median(shownMs).toFixed(0)} ms after opening, at most ${Math.max(...shownMs).toFixed(0)}`
  )

  const page = await browser.newPage()
  await page.goto(source.api)
  await page.getByText('3 devices, live').waitFor()
  await sleep(SETTLED_MS)
  await page.evaluate(`window.changes = 0
    new MutationObserver(all => { window.changes += all.length }).observe(document.body, {
      subtree: true, childList: true, attributes: true, characterData: true })`)
  const idle = await windowShare(page, () => sleep(IDLE_MS))
  const changes = await page.evaluate<number>('window.changes')
  say(
    `while nothing changes: ${percent(idle)} of a core, ${changes} changes of the document in ${IDLE_MS / 1000} s`
  )
  const [open, closed]: [number[], number[]] = [[], []]
  const busy: number[] = []
  for (let i = 0; i < rounds; i++) {
    busy.push(await windowShare(page, async () => void open.push(await answerMs())))
    await page.goto('about:blank')
    closed.push(await answerMs())
    await page.goto(source.api)
    await page.getByText('3 devices, live').waitFor()
    await sleep(SETTLED_MS)
  }
  say(`while an answer is drawn: ${percent(median(busy))} of a core`)
  const ratio = median(open) / median(closed)
  say(
    `a token with the page open over one without: ${ratio.toFixed(2)} (${median(closed).toFixed(1)} ms without)`
  )
} finally {
  await browser.close()
  await Promise.all(nodes.map(node => node.stop()))
  await rm(folder, { recursive: true, force: true })
}

/** Of one core, what the page's thread takes while `work` is done. */
async function windowShare(page: Page, work: () => Promise<void>): Promise<number> {
  const session = await page.context().newCDPSession(page)
  await session.send('Performance.enable')
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
