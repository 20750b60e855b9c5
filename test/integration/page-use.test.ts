import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode, GenerateEvent } from '../../node/index.ts'
import { changed } from '../../node/page/what-if.ts'
import type { ScenarioInput } from '../../node/plan/scenario.ts'
import { CHROMIUM, startBrowser } from '../fixtures/browser.ts'
import { Nodes } from '../fixtures/nodes.ts'
import { axeFindings, openedPage } from '../fixtures/opened-page.ts'
import { ANSWER, fakeNode } from '../node/http/fake-node.ts'

/** What the focus is on, as a screen reader names it, and whether that is seen. */
const FOCUSED = `(({ activeElement: element }) => ({
  name: element.labels?.[0]?.textContent.trim() ?? element.getAttribute('aria-label') ?? element.textContent.trim(),
  tag: element.localName,
  isInDialog: element.closest('dialog') !== null,
  isSeen: getComputedStyle(element).outlineStyle !== 'none' && parseFloat(getComputedStyle(element).outlineWidth) >= 2
}))(document)`
/** Roles of what a person acts on, or is told as a picture. */
const NAMED_ROLES = [
  'button',
  'link',
  'textbox',
  'combobox',
  'slider',
  'spinbutton',
  'DisclosureTriangle',
  'image',
  'progressbar'
]

let browser: Browser
const servers: HttpServer[] = []
const opened = (url: string, options: BrowserContextOptions = {}) => openedPage(browser, url, options)

async function serve(node: EdgeNode): Promise<string> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  return server.url
}

/** An answer that goes on until it is stopped. */
async function* slowly(signal: AbortSignal): AsyncGenerator<GenerateEvent> {
  yield* ANSWER.slice(0, 2)
  for (let id = 0; ; id++) {
    await sleep(20, undefined, { signal })
    yield { type: 'text', text: 'word ', tokens: [id], logprobs: [] }
  }
}

interface Focused {
  name: string
  tag: string
  isInDialog: boolean
  isSeen: boolean
}

const focused = (page: Page) => page.evaluate<Focused>(FOCUSED)

/** Goes on by the key until a control of that name has the focus; all that had it on the way. */
async function tabTo(page: Page, name: string): Promise<Focused[]> {
  const passed: Focused[] = []
  while (passed.at(-1)?.name !== name) {
    if (passed.length > 40)
      throw new Error(`nothing called ${name}: ${passed.map(({ name }) => name).join(', ')}`)
    await page.keyboard.press('Tab')
    passed.push(await focused(page))
  }
  return passed
}

describe.skipIf(CHROMIUM === undefined)('the page, used in Chromium', () => {
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterEach(async () => {
    await Promise.all(servers.splice(0).map(server => server.stop()))
  })
  afterAll(async () => {
    await browser?.close()
  })

  test('by the keyboard alone: in order, with the focus seen, which is never lost with a button that goes away', async () => {
    const url = await serve(fakeNode((_, signal) => slowly(signal)))
    await using opening = await opened(url)
    const { page, complaints } = opening
    await page.getByText('1 device, live').waitFor()
    const passed = await tabTo(page, 'Your question')
    expect(passed.map(({ name }) => name)).toEqual([
      'Another device',
      'New',
      'What does a thermostat do?',
      'What is a pump?',
      'Tell me a story about a robot and a lamp.',
      'Your question'
    ])
    expect(passed.filter(({ isSeen }) => !isSeen)).toEqual([])

    const prompt = { name: 'Your question', tag: 'textarea' }
    await page.keyboard.press('Shift+Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Stop' }).waitFor()
    expect(await focused(page)).toMatchObject(prompt)
    await tabTo(page, 'Stop')
    await page.keyboard.press('Enter')
    await page.getByText('stopped').waitFor()
    expect(await focused(page)).toMatchObject(prompt)
    await tabTo(page, 'Ask again')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Stop' }).waitFor()
    expect(await focused(page)).toMatchObject(prompt)
    await page.keyboard.press('Escape')
    await page.getByText('stopped').waitFor()

    // Whoever points has no focus left on the button that was pressed, and stops by the key all the same.
    await page.getByLabel('Your question').fill('More')
    await page.getByRole('button', { name: 'Send' }).click()
    await page.getByRole('button', { name: 'Stop' }).waitFor()
    // Composed characters are left by the same key, and the answer goes on.
    await page.evaluate(
      "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', isComposing: true, bubbles: true }))"
    )
    await page.keyboard.press('Shift')
    expect(await page.getByText('stopped').count()).toBe(1)
    await page.keyboard.press('Escape')
    await page.getByText('stopped').nth(1).waitFor()
    expect(complaints).toEqual([])
  })

  test('a model is loaded from the first key on in an empty conversation, once for it, and never for a page that is open', async () => {
    const node = fakeNode()
    const url = await serve(node)
    await using opening = await opened(url)
    const { page, requested, complaints } = opening
    await page.getByText('1 device, live').waitFor()
    const field = page.getByLabel('Your question')
    await field.click()
    expect(requested.filter(url => url.endsWith('/api/load'))).toEqual([])
    await page.keyboard.type('Why')
    await expect
      .poll(() => node.loaded)
      .toEqual([{ model: undefined, objective: 'latency', privacy: 'prompt' }])
    await page.keyboard.press('Enter')
    await page.locator('.figures').waitFor()
    await field.fill('And why that?')
    await page.getByRole('button', { name: 'New' }).click()
    await field.fill('x')
    await expect.poll(() => node.loaded.length).toBe(2)
    await field.fill('xyz')
    expect(requested.filter(url => url.endsWith('/api/load'))).toHaveLength(2)
    expect(complaints).toEqual([])
  })

  test('a dialog keeps the focus, and gives it back when it is left by the key', async () => {
    const url = await serve(fakeNode())
    await using opening = await opened(url)
    const { page } = opening
    await page.getByText('1 device, live').waitFor()
    await tabTo(page, 'Another device')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    for (let i = 0; i < 8; i++) {
      const { isInDialog, tag } = await focused(page)
      // Between its last and its first control the browser's own have the focus.
      expect(isInDialog || tag === 'body').toBe(true)
      await page.keyboard.press('Tab')
    }
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'hidden' })
    expect(await focused(page)).toMatchObject({ name: 'Another device', isSeen: true })
  })

  test('every control has a name, and in colours that a person has forced everything drawn is told from its ground', async () => {
    const url = await serve(fakeNode())
    await using opening = await opened(url)
    const { page } = opening
    await page.getByRole('button', { name: 'What is a pump?' }).click()
    await page.locator('.figures').waitFor()
    for (const summary of await page.locator('summary').all()) await summary.click()
    const session = await page.context().newCDPSession(page)
    const { nodes } = await session.send('Accessibility.getFullAXTree')
    const shown = nodes.filter(({ ignored }) => !ignored)
    const nameless = shown.filter(
      ({ role, name }) => NAMED_ROLES.includes(role?.value) && (name?.value ?? '').trim() === ''
    )
    expect(nameless.map(({ role, properties }) => [role?.value, properties])).toEqual([])
    expect(shown.filter(({ role }) => role?.value === 'button').length).toBeGreaterThan(8)

    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, forcedColors: 'active' })
      const [ground, ...drawn] = await page.evaluate<string[]>(`(() => {
        const fill = selector => getComputedStyle(document.querySelector(selector)).fill
        return ['.card .frame', '.card .name', '.card .mark', '.card .other', '.card .small'].map(fill)
      })()`)
      expect(drawn).not.toContain(ground)
    }
    await page.emulateMedia({ colorScheme: 'light', forcedColors: 'none' })
    expect(await axeFindings(page)).toEqual([])
  })

  test('that a model fits nowhere is not said while an answer holds on to what there is', async () => {
    const file = new URL('../scenarios/llama2-7b-1mbps.json', import.meta.url)
    const scenario: ScenarioInput = JSON.parse(await readFile(file, 'utf8'))
    const small = changed(
      scenario,
      scenario.devices.map(({ id }) => ({ kind: 'memory', device: id, memoryBytes: 1 }))
    )
    const node = fakeNode((_, signal) => slowly(signal))
    const url = await serve({ ...node, scenario: async () => small })
    await using opening = await opened(url)
    const { page } = opening
    const refusal = page.getByText('The model fits nowhere now')
    await refusal.waitFor()
    await page.getByRole('button', { name: 'What is a pump?' }).click()
    await refusal.waitFor({ state: 'detached' })
    await page.getByRole('button', { name: 'Stop' }).click()
    await refusal.waitFor()
  })

  test('nothing is deleted by one press of a button', async () => {
    const url = await serve(fakeNode())
    await using opening = await opened(url)
    const { page } = opening
    await page.getByRole('button', { name: 'What is a pump?' }).click()
    await page.locator('.figures').waitFor()
    await page.getByText('Name, delete or export').click()
    for (const [press, keep, sure] of [
      ['Delete it', 'Keep it', 'Delete it for good'],
      ['Forget all', 'Keep them', 'Forget them']
    ]) {
      await page.getByRole('button', { name: press!, exact: true }).click()
      await page.getByRole('button', { name: keep! }).click()
      expect(await page.locator('.message').count()).toBe(2)
      await page.getByRole('button', { name: press!, exact: true }).click()
      await page.getByRole('button', { name: sure! }).click()
      await page.getByRole('button', { name: 'What is a pump?' }).click()
      await page.locator('.figures').waitFor()
    }
    expect(await page.locator('.message').count()).toBe(2)
  })

  test('a text file goes into the question, and what is none is refused by name', async () => {
    const node = fakeNode()
    const url = await serve(node)
    await using opening = await opened(url)
    const { page, complaints } = opening
    await page.getByLabel('Your question').fill('What is in it?')
    const give = (name: string, buffer: Buffer) =>
      page.getByLabel('Text file for the question').setInputFiles({ name, mimeType: 'text/plain', buffer })
    await give('photo.txt', Buffer.of(0x89, 0x50, 0, 0))
    await page.getByText('photo.txt is no text').waitFor()
    await page.evaluate(
      "globalThis.reading = File.prototype.text; File.prototype.text = () => Promise.reject(new Error('gone'))"
    )
    await give('gone.txt', Buffer.from('A pump.'))
    await page.getByText('gone.txt is no text').waitFor()
    await page.evaluate('File.prototype.text = globalThis.reading')
    await give('notes.txt', Buffer.from('A pump.'))
    await page.getByText('gone.txt is no text').waitFor({ state: 'detached' })
    expect(await page.getByLabel('Your question').inputValue()).toBe(
      'What is in it?\n\nnotes.txt:\n```\nA pump.\n```\n'
    )
    await page.keyboard.press('Enter')
    await page.locator('.figures').waitFor()
    expect(node.asked[0]!.input).toMatchObject({
      messages: [{ content: expect.stringContaining('A pump.') }]
    })
    expect(complaints).toEqual([])
  })

  test('other programs are told where they find the node', async () => {
    const url = await serve(fakeNode())
    await using opening = await opened(url)
    const { page, complaints } = opening
    await page.getByText('Use this mesh in another program').click()
    expect(await page.locator('.addresses code').allInnerTexts()).toEqual([`${url}/v1`, url, url])
    await page.getByRole('button', { name: 'Copy the address for OpenAI' }).click()
    await page.getByText('Copied: the address for OpenAI.').waitFor()
    expect(complaints).toEqual([])
  })

  describe('of a real node with another', () => {
    const nodes = new Nodes()
    let url: string
    let mesh: EdgeNode[]
    beforeAll(async () => {
      mesh = await nodes.mesh(['desktop', 'laptop'], 0.8)
    })
    afterAll(async () => {
      await nodes[Symbol.asyncDispose]()
    })

    test('what if: sliders change the exact plan, by the key and by the pointer, and one line of it is read out', async () => {
      url = await serve(mesh[0]!)
      await using opening = await opened(url, { viewport: { width: 1280, height: 1600 } })
      const { page, complaints } = opening
      // What is above the sliders moves them when it comes.
      await page.getByRole('region', { name: 'Plan' }).getByText('It is proven').waitFor()
      await page.getByText('Try other memory').click()
      const trial = page.locator('.trial')
      const headline = trial.getByRole('status')
      await headline.getByText('ms a token').waitFor()
      expect(await trial.locator('.stage').count()).toBe(2)
      const own = page.getByRole('slider', { name: 'desktop', exact: true })
      await own.focus()
      await page.keyboard.press('End')
      await headline.getByText(/ms a token instead of/).waitFor()
      await trial.getByText('desktop layers 0 to 9').waitFor()
      expect(await trial.locator('.stage').count()).toBe(1)

      const box = (await own.boundingBox())!
      await own.hover({ position: { x: box.width - 2, y: box.height / 2 } })
      await page.mouse.down()
      for (let share = 0.9; share > -0.1; share -= 0.1)
        await page.mouse.move(box.x + box.width * share, box.y)
      await headline.getByText('It would fit nowhere.').waitFor()
      await trial.getByText(/; it would fit with .* desktop/).waitFor()
      await page.mouse.up()
      await page.getByRole('button', { name: 'As it is' }).click()
      await trial.locator('.stage').nth(1).waitFor()

      const between = page.getByRole('slider', { name: 'Rate', exact: true })
      await between.focus()
      await page.keyboard.press('Home')
      await headline.getByText(/ms a token instead of/).waitFor()
      expect(await between.getAttribute('aria-valuetext')).toBe('0.1 Mbps')
      await tabTo(page, 'Add it')
      await page.keyboard.press('Enter')
      await page.getByRole('slider', { name: 'Rate to the others' }).waitFor()
      expect(await focused(page)).toMatchObject({ name: 'Take it away' })
      await page.getByRole('button', { name: 'Take it away' }).click()
      await page.getByRole('button', { name: 'Add it' }).waitFor()
      expect(await axeFindings(page)).toEqual([])
      expect(complaints).toEqual([])
    })

    test('nothing moves for whoever wants that, and of an answer two sentences are read out', async () => {
      url = await serve(mesh[0]!)
      await using opening = await opened(url)
      const { page } = opening
      await page.getByText('2 devices, live').waitFor()
      await page.evaluate(`(() => {
        window.moved = 0
        window.spoken = []
        const animate = Element.prototype.animate
        Element.prototype.animate = function (...given) {
          window.moved++
          return animate.apply(this, given)
        }
        new MutationObserver(changes => {
          for (const { target } of changes) {
            const region = (target.closest ? target : target.parentElement)?.closest('[role=status], [role=alert], [aria-live]')
            if (region && region.textContent !== spoken.at(-1) && region.textContent !== '') spoken.push(region.textContent)
          }
        }).observe(document.body, { subtree: true, childList: true, characterData: true })
      })()`)
      const story = async (count: number) => {
        await page.getByLabel('Your question').fill('Tell me a story about a robot and a lamp.')
        await page.keyboard.press('Enter')
        await page.locator('.figures').nth(count).waitFor()
      }
      await story(0)
      expect(await page.evaluate('window.moved')).toBeGreaterThan(0)
      expect(await page.evaluate('window.spoken')).toEqual([
        'The answer is being written.',
        'The answer is complete.'
      ])
      await page.emulateMedia({ reducedMotion: 'reduce' })
      await page.evaluate('window.moved = 0')
      await story(1)
      expect(await page.evaluate('window.moved')).toBe(0)
    })
  })
})
