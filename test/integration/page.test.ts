import { readFile } from 'node:fs/promises'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type {
  DeploymentState,
  GenerateEvent,
  MeshState,
  PairingControl,
  PairingState
} from '../../node/api.ts'
import { newApiToken } from '../../node/api-file.ts'
import { createClient } from '../../node/client/index.ts'
import { MESH_INTERVAL_MS } from '../../node/http/constants.ts'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode } from '../../node/index.ts'
import { CHROMIUM, startBrowser } from '../fixtures/browser.ts'
import { answer, ask, Nodes, until } from '../fixtures/nodes.ts'
import { axeFindings, openedPage } from '../fixtures/opened-page.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { stopDuringAnswer } from '../fixtures/stop-during-answer.ts'
import { ANSWER, fakeNode, OPEN_PAIRING, RESULT, replay } from '../node/http/fake-node.ts'

/** What would run if any of it became markup. */
const HOSTILE = '<img src=x onerror="window.ran=1">'
const QUESTION = 'What does a thermostat do?'
const TOKEN = newApiToken()
/** So often, once a second, the node looks at what there is to tell while a page is to stay as it is. */
const QUIET_LOOKS = 5
/** Something that is placed, and rests. */
const DEPLOYMENT: DeploymentState = {
  modelId: 'a'.repeat(64),
  objective: 'latency',
  plan: RESULT.plan,
  predicted: RESULT.predicted,
  slots: 1,
  microBatches: 1,
  sessions: 0
}
/** All that a page leaves behind. */
const KEPT = 'JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href])'

let browser: Browser
const servers: HttpServer[] = []

async function serve(
  node: EdgeNode,
  init: { port?: number; apiKey?: string; token?: string } = {}
): Promise<HttpServer> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, ...init })
  servers.push(server)
  return server
}

const opened = (url: string, options: BrowserContextOptions = {}) => openedPage(browser, url, options)

/** How much wider the page is than the window. */
async function overhang(page: Page): Promise<number> {
  return await page.evaluate('document.documentElement.scrollWidth - window.innerWidth')
}

async function question(page: Page, text: string): Promise<void> {
  if (!(await page.getByLabel('Wording').isVisible()))
    await page.getByText('Model, wording and privacy').click()
  await page.getByLabel('Wording').selectOption('likeliest')
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

    test('shows the devices, streams an answer, asks nobody but its node, and can be used by everybody', async () => {
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
      await page.getByText('It is proven that none is better').waitFor()

      await page.getByText('Try other memory').click()
      await page.getByRole('button', { name: 'Add it' }).click()
      await page.getByText(/ms a token instead of/).waitFor()

      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        expect(await axeFindings(page)).toEqual([])
      }
      expect(await page.evaluate('window.ran')).toBeUndefined()
      expect(requested.filter(asked => !asked.startsWith(`${url}/`))).toEqual([])
      expect(complaints).toEqual([])
    })

    test('says who is lost under an answer and who replaces it, and lives through a restart of its node', async () => {
      const story = 'Tell me a story about a robot and a lamp.'
      const { text: expected } = await answer(mesh[0]!, ask(story, { maxTokens: 200 }))
      const server = await serve(mesh[0]!)
      await using opening = await opened(server.url)
      const { page } = opening
      await page.getByText('3 devices, live').waitFor()
      const victim = stopDuringAnswer(mesh)
      await question(page, story)
      await page.getByText(`${await victim} is lost.`).waitFor()
      // Its card is broken with that, in the next drawing, and not when the directory has it, seconds later.
      await page.locator('.card.gone .crack').waitFor({ state: 'attached', timeout: 2_000 })
      await page.locator('.figures').waitFor()
      expect(await page.locator('.message.assistant .text').innerText()).toBe(expected)
      expect(await page.locator('.figures').innerText()).toContain('1 lost device replaced')
      expect(await page.locator('.loss').innerText()).toMatch(/Now: .*layers? \d.*Noticed after/s)

      await server.stop()
      await page.getByText('does not answer').waitFor()
      await serve(mesh[0]!, { port: Number(new URL(server.url).port) })
      await page.getByText('2 devices, live').waitFor()
    })
  })

  test('says of a model that fits nowhere with what it would', async () => {
    await using nodes = new Nodes()
    const [small] = await nodes.mesh(['small', 'smaller'], 0.2)
    const { url } = await serve(small!)
    await using opening = await opened(url)
    await opening.page
      .getByText(/The model fits nowhere now: .*; it would fit with .* more on small/)
      .waitFor()
  })

  describe('of a node that is made up', () => {
    test('nothing that a model or an error says becomes more than text', async () => {
      const said = `${HOSTILE}\n\n[x](javascript:window.ran=1)\n\n${'*'.repeat(10_000)}`
      const events: GenerateEvent[] = [
        ...ANSWER.slice(0, 2),
        { type: 'text', text: said, tokens: [1], logprobs: [] },
        { type: 'done', result: { ...RESULT, text: said, finishReason: 'error', error: HOSTILE } }
      ]
      const { url } = await serve(fakeNode(() => replay(events)))
      await using opening = await opened(url)
      const { page, complaints } = opening
      await question(page, `${HOSTILE}${'x'.repeat(10_000)}`)
      await page.locator('.failure').waitFor()
      expect(await page.locator('.failure').innerText()).toBe(HOSTILE)
      expect(await page.locator('.message.assistant .text').innerText()).toContain(HOSTILE)
      expect(await page.locator('.message img, .message a').count()).toBe(0)
      expect(await overhang(page)).toBeLessThanOrEqual(0)
      expect(await page.evaluate('window.ran')).toBeUndefined()
      expect(complaints).toEqual([])
    })

    test('a question is edited, and conversations leave as a file and come back from one, whatever is in it', async () => {
      const { url } = await serve(fakeNode(() => replay(ANSWER)))
      await using opening = await opened(url)
      const { page, complaints } = opening
      await page.getByRole('button', { name: 'What is a pump?' }).click()
      await page.locator('.figures').waitFor()
      await page.getByRole('button', { name: 'Edit' }).click()
      await page.getByLabel('Your question, anew').fill('What is a valve?')
      await page.keyboard.press('Enter')
      await page.locator('.message.user .text', { hasText: 'valve' }).waitFor()
      await page.locator('.figures').waitFor()
      expect(await page.locator('.message').count()).toBe(2)

      await page.getByText('Name, delete or export').click()
      const [download] = await Promise.all([
        page.waitForEvent('download'),
        page.getByRole('button', { name: 'Export all' }).click()
      ])
      const exported = await readFile(await download.path(), 'utf8')
      expect(exported).toContain('What is a valve?')
      const take = (text: string) =>
        page
          .getByLabel('File of conversations')
          .setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(text) })
      await take('{"__proto__": []}')
      await page.getByText('x.json is no file of conversations').waitFor()
      const long = `${HOSTILE}${'x'.repeat(10_000)}`
      await take(exported.replaceAll('What is a valve?', JSON.stringify(long).slice(1, -1)))
      await page.locator('.message.user .text', { hasText: 'onerror' }).waitFor()
      expect(await overhang(page)).toBeLessThanOrEqual(0)
      expect(await page.evaluate('window.ran')).toBeUndefined()
      expect(await axeFindings(page)).toEqual([])
      expect(complaints).toEqual([])
    })

    test('its policy holds against a script that got in', async () => {
      const { url } = await serve(fakeNode())
      const elsewhere = await serve(fakeNode())
      await using opening = await opened(url)
      const tried = await opening.page.evaluate(`(async () => {
        const said = []
        try { document.body.innerHTML = '<b>x</b>' } catch (error) { said.push(error.name) }
        const script = document.createElement('script')
        try { script.textContent = 'window.ran = 1' } catch (error) { said.push(error.name) }
        try { script.src = '${elsewhere.url}/page/lib/preact.js' } catch (error) { said.push(error.name) }
        const picture = new Image()
        picture.src = '${elsewhere.url}/page/icon.svg'
        await picture.decode().catch(error => said.push(error.name))
        await fetch('${elsewhere.url}/api/mesh').catch(error => said.push(error.name))
        return said
      })()`)
      expect(tried).toEqual(['TypeError', 'TypeError', 'TypeError', 'EncodingError', 'TypeError'])
      expect(await opening.page.evaluate('window.ran')).toBeUndefined()
    })

    test('changes nothing in its document while nothing happens that it shows', async () => {
      const node = fakeNode()
      let looks = 0
      const mesh = () => {
        looks++
        const state = meshOf(4, node.mesh())
        // What is told each second, and shown nowhere; and measurements that tremble, as on devices that have nothing to do.
        const counters = { ...state.self.counters, framesSent: looks }
        const self = { ...state.self, counters, sequence: looks }
        const peers = state.peers.map(peer => ({ ...peer, lastSeenMs: looks, rttMs: 0.4 + (looks % 5) / 8 }))
        const links = state.links.map(link => ({
          ...link,
          mbps: link.mbps + 20 * (looks % 4),
          ageMs: looks * MESH_INTERVAL_MS
        }))
        return { ...state, self, peers, links, deployments: [DEPLOYMENT] }
      }
      const { url } = await serve({ ...node, mesh })
      await using opening = await opened(url)
      const { page } = opening
      await page.getByText('4 devices, live').waitFor()
      await page.getByText('(aaaaaa)').waitFor({ state: 'attached' })
      await page.locator('.strip .stage').first().waitFor()
      await page.evaluate(`window.changed = []
        new MutationObserver(changes => {
          for (const { type, target } of changes) changed.push(type + ' ' + (target.outerHTML ?? target.parentElement.outerHTML))
        }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })`)
      const before = looks
      await until(() => looks >= before + QUIET_LOOKS)
      expect(await page.evaluate('window.changed')).toEqual([])
    })

    test('16 devices with long names fit a phone that is 320 pixels wide', async () => {
      const node = fakeNode()
      const { url } = await serve({ ...node, mesh: () => meshOf(16, node.mesh()) })
      await using opening = await opened(url, { viewport: { width: 320, height: 640 } })
      const { page, complaints } = opening
      await page.getByText('16 devices, live').waitFor()
      expect(await page.locator('.graph .card').count()).toBe(16)
      for (const summary of await page.locator('summary').all()) await summary.click()
      expect(await overhang(page)).toBeLessThanOrEqual(0)
      expect(await axeFindings(page)).toEqual([])
      expect(complaints).toEqual([])
    })

    test('lets a device in for whom a link or a code gives it that power, and nobody by being open', async () => {
      const { node, told } = pairingNode()
      const { url } = await serve(node, { token: TOKEN })
      const owner = createClient({ url, token: TOKEN })
      await using opening = await opened(url)
      const { page, requested, complaints } = opening
      await page.getByRole('button', { name: 'Another device' }).click()
      await page.getByLabel('Code').fill('00000-00000')
      await page.getByRole('button', { name: 'Let this page pair' }).click()
      await page.getByText('that is no code of this node').waitFor()
      expect(await axeFindings(page)).toEqual([])
      await page.getByLabel('Code').fill((await owner.pageCode()).code.toUpperCase())
      await page.getByRole('button', { name: 'Let this page pair' }).click()

      await page.getByRole('button', { name: 'Show six digits' }).click()
      await page.getByText('012 345').waitFor()
      await page.getByText('Good for one device and 2:00 more.').waitFor()
      await page.getByText('Nobody has typed digits yet; 3 tries are left.').waitFor()
      await page.getByRole('img', { name: 'QR code: npx edgeshard join --peer 127.0.0.1:7448' }).waitFor()
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        expect(await axeFindings(page)).toEqual([])
      }
      await page.setViewportSize({ width: 320, height: 640 })
      expect(await overhang(page)).toBeLessThanOrEqual(0)
      const dialog =
        "(({ scrollWidth, clientWidth }) => scrollWidth - clientWidth)(document.querySelector('dialog'))"
      expect(await page.evaluate(dialog)).toBeLessThanOrEqual(0)

      told({ ...OPEN_PAIRING, leftMs: 61_000, triesLeft: 1, from: '192.0.2.7' })
      await page.getByText('Refused: a device at 192.0.2.7 typed other digits; one try is left.').waitFor()
      await page.getByText('Good for one device and 1:01 more.').waitFor()
      const device = peerIdOf('device 0')
      told({ open: false, end: 'paired', device, from: '192.0.2.8' })
      await page.getByText(`Confirmed: the device …${device.slice(-6)} at 192.0.2.8`).waitFor()
      node.mesh = () => meshOf(2, fakeNode().mesh())
      await page.getByText('is in, and connected').waitFor()
      expect(await page.evaluate(KEPT)).not.toContain(TOKEN)
      expect(requested.filter(asked => !asked.startsWith(`${url}/`))).toEqual([])
      expect(complaints).toEqual([])
    })

    test('a link pairs at once, leaves the address, and what it showed is closed when the dialog is', async () => {
      const { node, told } = pairingNode()
      const { url } = await serve(node, { token: TOKEN })
      const { code } = await createClient({ url, token: TOKEN }).pageCode()
      await using opening = await opened(`${url}/#pair=${code}`)
      const { page, requested } = opening
      await page.getByRole('button', { name: 'Show six digits' }).click()
      await page.getByText('012 345').waitFor()
      const kept = await page.evaluate(KEPT)
      expect(kept).not.toContain(code)
      expect(requested.filter(asked => asked.includes(code))).toEqual([])
      await page.keyboard.press('Escape')
      await until(() => !node.pairing.state.open)
      told({ open: false, end: 'closed' })
      await page.reload()
      await page.getByRole('button', { name: 'Another device' }).click()
      await page.getByLabel('Code').waitFor()
    })

    test('asks for the key, and keeps it in memory alone', async () => {
      const { url } = await serve(fakeNode(), { apiKey: 'key-1' })
      await using opening = await opened(url)
      const { page } = opening
      await page.getByLabel('API key of this node').fill('key-1')
      await page.getByRole('button', { name: 'Use it' }).click()
      await page.getByText('1 device, live').waitFor()
      expect(await page.evaluate(KEPT)).not.toContain('key-1')
      await page.reload()
      await page.getByLabel('API key of this node').waitFor()
    })
  })
})

/** A mesh of so many devices, each with a link to the first. */
function meshOf(count: number, mesh: MeshState): MeshState {
  const peers = Array.from({ length: count - 1 }, (_, i) => ({
    ...mesh.self,
    peerId: peerIdOf(`device ${i}`),
    name: `${'device-with-a-long-name-'.repeat(2)}${i}`,
    state: 'connected' as const,
    connected: true,
    suspect: false,
    rttMs: 0.4,
    lastSeenMs: 10
  }))
  const ids = [mesh.self.peerId, ...peers.map(({ peerId }) => peerId)]
  const links = ids.slice(1).flatMap(peer => {
    const link = { mbps: 940, rttMs: 0.4, spread: 0.02, ageMs: 0 }
    return [
      { ...link, from: ids[0]!, to: peer },
      { ...link, from: peer, to: ids[0]! }
    ]
  })
  return { ...mesh, peers, links }
}

/** A made-up node whose pairing is as it was told last. */
function pairingNode() {
  const node = fakeNode()
  let state: PairingState = { open: false }
  const told = (next: PairingState) => {
    state = next
    return state
  }
  const pairing: PairingControl = {
    get state() {
      return state
    },
    open: async () => told(OPEN_PAIRING),
    close: async () => told({ open: false, end: 'closed' })
  }
  return { node: { ...node, pairing }, told }
}
