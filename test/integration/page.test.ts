import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode } from '../../node/index.ts'
import { CHROMIUM, startBrowser } from '../fixtures/browser.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, Nodes } from '../fixtures/nodes.ts'

/** What would run if any of it became markup. */
const HOSTILE = '<img src=x onerror="window.ran=1">'
const QUESTION = 'What does a thermostat do?'
const WAIT_MS = deadlineMs(20_000)

let browser: Browser
const servers: HttpServer[] = []

async function serve(node: EdgeNode, init: { port?: number; apiKey?: string } = {}): Promise<HttpServer> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, ...init })
  servers.push(server)
  return server
}

/** The page of a server, what it has asked for, and what the browser has to say against it. */
async function opened(url: string, options: BrowserContextOptions = {}) {
  const context = await browser.newContext(options)
  const page = await context.newPage()
  page.setDefaultTimeout(WAIT_MS)
  const requested: string[] = []
  const complaints: string[] = []
  page.on('request', request => requested.push(request.url()))
  page.on('pageerror', error => complaints.push(error.message))
  page.on('console', message => {
    // A response that the page expects may be a refusal; it is not a mistake of the page.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
      complaints.push(message.text())
    }
  })
  await page.goto(url)
  return { page, requested, complaints, [Symbol.asyncDispose]: () => context.close() }
}

async function question(page: Page, text: string): Promise<void> {
  await page.getByLabel('Your question').fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

describe.skipIf(CHROMIUM === undefined)('the page, in Chromium (Debian: apt-get install chromium)', () => {
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterEach(async () => {
    await Promise.all(servers.splice(0).map(server => server.stop()))
  })
  afterAll(async () => {
    await browser?.close()
  })

  describe('of a real node with two others', () => {
    const nodes = new Nodes()
    let mesh: EdgeNode[]
    beforeAll(async () => {
      mesh = await nodes.mesh(['desktop', HOSTILE, 'mini-pc'], 0.8)
    })
    afterAll(async () => {
      await nodes[Symbol.asyncDispose]()
    })

    test('shows the devices, streams an answer, and asks nobody but its node', async () => {
      const { url } = await serve(mesh[0]!)
      const expected = (await answer(mesh[0]!, ask(QUESTION, { maxTokens: 200 }))).text
      await using opening = await opened(url)
      const { page, requested, complaints } = opening
      await page.getByText('3 devices, live').waitFor()
      await page.getByText('Devices as a table').click()
      const rows = page.getByRole('group', { name: 'Devices' }).getByRole('rowheader')
      const names = (await rows.allTextContents()).map(text => text.replace(/ (this node|….{6})$/, ''))
      expect(names.sort()).toEqual(['desktop', HOSTILE, 'mini-pc'].sort())

      await question(page, QUESTION)
      await page.locator('.figures').waitFor()
      expect(await page.locator('.message.assistant .text').innerText()).toBe(expected)
      expect(await page.locator('.figures').innerText()).toContain('first token')
      await page.getByRole('heading', { name: 'Predicted and measured' }).waitFor()
      await page.locator('.strip .stage').first().waitFor()

      expect(await page.evaluate('window.ran')).toBeUndefined()
      expect(requested.filter(asked => !asked.startsWith(`${url}/`))).toEqual([])
      expect(complaints).toEqual([])
    })
  })
})
