import { mkdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import type { EdgeNode } from '../../../node/index.ts'
import { CHROMIUM, startBrowser } from '../../fixtures/browser.ts'
import { bundledShare, Nodes } from '../../fixtures/nodes.ts'
import { stopDuringAnswer } from '../../fixtures/stop-during-answer.ts'
import { SlowRelay } from '../mesh/slow-relay.ts'

/**
 * `npm run screenshots`: pictures of the page for README, of three real nodes that answer with the bundled model. That of loading is of
 * three others with links of 10 Mbps, as otherwise it is over before anybody sees it.
 */
const FOLDER = fileURLToPath(new URL('../../../node/page/screenshots/', import.meta.url))
const DESKTOP = { width: 960, height: 520 }
const PHONE = { width: 390, height: 780 }
/** There is the chat, and below it a line a device. */
const TALL = { width: 960, height: 690 }
const SLOW_BYTES_PER_SECOND = 10e6 / 8
const NAMES = ['desktop', 'laptop', 'mini-pc']
const SHARE = 0.8
const WAIT_MS = 120_000

async function opened(
  browser: Browser,
  { url }: HttpServer,
  colorScheme: 'light' | 'dark',
  viewport: typeof DESKTOP
): Promise<Page> {
  const page = await browser.newPage({ colorScheme, viewport })
  page.setDefaultTimeout(WAIT_MS)
  await page.goto(url)
  await page.getByText('live').waitFor()
  return page
}

async function ask(page: Page, text: string): Promise<void> {
  await page.getByLabel('Your question').fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

async function shoot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${FOLDER}${name}.png` })
  process.stdout.write(`node/page/screenshots/${name}.png\n`)
}

/** Nodes that reach each other over links of so many bytes a second, and no other way; only the first holds the model. */
async function slowMesh(nodes: Nodes, relays: AsyncDisposableStack): Promise<EdgeNode> {
  const memoryBytes = await bundledShare(SHARE)
  const mesh: EdgeNode[] = []
  for (const name of NAMES) {
    const peers = await Promise.all(
      mesh.map(async ({ addresses, peerId }) => {
        const port = Number(/\/tcp\/(\d+)/.exec(addresses[0]!)![1])
        const relay = relays.use(await SlowRelay.start(port, SLOW_BYTES_PER_SECOND))
        return `/ip4/127.0.0.1/tcp/${relay.port}/p2p/${peerId}`
      })
    )
    mesh.push(await nodes.add({ name, memoryBytes, peers, bundled: mesh.length === 0 }))
  }
  return mesh[0]!
}

/** The first question loads the model: how far each device is, and all together. */
async function shootLoading(browser: Browser): Promise<void> {
  await using relays = new AsyncDisposableStack()
  await using nodes = new Nodes()
  await using server = await startHttpServer({
    node: await slowMesh(nodes, relays),
    host: '127.0.0.1',
    port: 0
  })
  const page = await opened(browser, server, 'light', TALL)
  await page.getByText('3 devices, live').waitFor()
  await page.locator('.graph .link text').nth(5).waitFor()
  await ask(page, 'What is a valve?')
  await page.getByText(/s left$/).waitFor()
  await page.getByText('fetching weights').waitFor()
  await shoot(page, 'loading-light')
  await page.locator('.message.assistant .figures').waitFor()
  await page.close()
}

/** An answer under way. One that is over before that is drawn is asked for again. */
async function shootAnswering(page: Page): Promise<void> {
  const count = page.locator('.graph .count')
  for (let answers = await page.locator('.figures').count(); ; answers++) {
    await ask(page, 'Tell me a story about a robot and a lamp.')
    const answered = page.locator('.figures').nth(answers)
    await count.or(answered).first().waitFor()
    const isUnderWay = await count.isVisible()
    await page.evaluate('scrollTo(0, 0)')
    if (isUnderWay) await shoot(page, 'desktop-light')
    await answered.waitFor()
    if (isUnderWay) return
  }
}

async function main(): Promise<void> {
  if (CHROMIUM === undefined) throw new Error('there is no Chromium: apt-get install chromium')
  await mkdir(FOLDER, { recursive: true })
  await using nodes = new Nodes()
  const mesh = await nodes.mesh(NAMES, SHARE)
  await using server = await startHttpServer({ node: mesh[0]!, host: '127.0.0.1', port: 0 })
  const browser = await startBrowser()
  try {
    await shootLoading(browser)
    const light = await opened(browser, server, 'light', DESKTOP)
    await light.getByText('3 devices, live').waitFor()
    await ask(light, 'What is a valve?')
    await light.locator('.message.assistant .figures').waitFor()
    await light.getByRole('button', { name: 'New' }).click()
    await light.getByText('It is proven that none is better').waitFor()
    await light.getByText('predicted, idle').waitFor()
    await shoot(light, 'idle-light')
    for (const text of ['What is a pump?', 'What does a thermostat do?']) {
      await ask(light, text)
      await light
        .locator('.message.assistant .figures')
        .nth(text.endsWith('do?') ? 1 : 0)
        .waitFor()
    }
    await shootAnswering(light)

    const phone = await opened(browser, server, 'light', PHONE)
    await ask(phone, 'What does a thermostat do?')
    await phone.locator('.figures').waitFor()
    await shoot(phone, 'phone-light')

    const dark = await opened(browser, server, 'dark', DESKTOP)
    const phoneDark = await opened(browser, server, 'dark', PHONE)
    stopDuringAnswer(mesh)
    await ask(dark, 'Tell me a story about a robot and a lamp.')
    await dark.locator('.figures').waitFor()
    await dark.evaluate('scrollTo(0, 0)')
    await shoot(dark, 'desktop-dark')
    await phoneDark.locator('.graph').scrollIntoViewIfNeeded()
    await phoneDark.locator('#plan-title').scrollIntoViewIfNeeded()
    await shoot(phoneDark, 'phone-dark')
  } finally {
    await browser.close()
  }
}

await main()
process.exit(0)
