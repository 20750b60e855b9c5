import { describe, expect, test, vi } from 'vitest'
import type { GenerateEvent, GenerateRequest } from '../../../node/api.ts'
import { requestFor, settingsIn } from '../../../node/page/chat-settings.ts'
import { Chats, type Shelf } from '../../../node/page/chats.ts'
import { Connection } from '../../../node/page/connection.ts'
import {
  conversationsIn,
  fresh,
  MAX_CONVERSATIONS,
  type Message,
  textOf
} from '../../../node/page/conversations.ts'
import { saidOf } from '../../../node/page/conversations-view.ts'
import { ANSWER, replay } from '../http/fake-node.ts'

const FIGURES = { ttftMs: 1, tpotMs: 2, predictedTpotMs: 2, tokens: 3, devices: ['desk'], recoveries: 0 }
const USER: Message = { role: 'user', text: 'What is a pump?' }
const DONE: Message = { role: 'assistant', text: 'A thing.', state: 'done', figures: FIGURES }

/** What a browser keeps. */
function shelfOf(kept: Record<string, string> = {}): Shelf & { kept: Record<string, string> } {
  return {
    kept,
    getItem: key => kept[key] ?? null,
    setItem: (key, value) => void (kept[key] = value),
    removeItem: key => void delete kept[key]
  }
}

/** Chats with a node that answers with these events. */
function chatsWith(shelf: Shelf, events: GenerateEvent[] = ANSWER) {
  const connection = new Connection('http://127.0.0.1:1')
  const asked: GenerateRequest[] = []
  const signals: AbortSignal[] = []
  vi.spyOn(connection.client, 'generate').mockImplementation((request, { signal } = {}) => {
    asked.push(request)
    if (signal !== undefined) signals.push(signal)
    return replay(events)
  })
  return { chats: new Chats(connection, shelf), asked, signals }
}

describe('conversations that were kept', () => {
  test('come back as they were', () => {
    const conversations = [{ ...fresh([USER, DONE]), title: 'Pumps' }, fresh([USER])]
    expect(conversationsIn(textOf(conversations))).toEqual(conversations)
  })

  test.each([
    ['no JSON', 'x'],
    ['no list', '{"id":1}'],
    ['null', 'null'],
    ['a list of nothing', '[null, 1, "x", [], {}]'],
    ['another kind of id', JSON.stringify([{ id: '__proto__', messages: [USER] }])],
    [
      'messages that are none',
      JSON.stringify([{ id: 'a'.repeat(32), messages: [{ role: 'system', text: 'x' }] }])
    ],
    ['messages that are a text', JSON.stringify([{ id: 'a'.repeat(32), messages: 'xx' }])],
    ['too deep to be read', '['.repeat(100_000)]
  ])('are none in what is hostile: %s', (_, text) => {
    expect(conversationsIn(text)).toEqual([])
  })

  test('lose what the page could not draw, and nothing else', () => {
    const hostile = {
      id: 'a'.repeat(32),
      title: 'x'.repeat(10_000),
      more: { deep: [1] },
      messages: [
        { role: 'user', text: '<img onerror=x>', figures: FIGURES },
        {
          role: 'assistant',
          text: 'a',
          state: 'running',
          note: 'asking',
          figures: { ...FIGURES, devices: null }
        },
        { role: 'assistant', text: 'b', state: { a: 1 }, figures: { ...FIGURES, tokens: '3' }, thought: 7 },
        { role: 'assistant', text: 'c', state: 'failed', note: 'why', fetched: { a: 1 } }
      ]
    }
    const [read] = conversationsIn(JSON.stringify([hostile]))
    expect(read!.title).toHaveLength(200)
    expect(Object.keys(read!).sort()).toEqual(['id', 'messages', 'title'])
    expect(read!.messages).toEqual([
      { role: 'user', text: '<img onerror=x>' },
      { role: 'assistant', text: 'a', state: 'stopped' },
      { role: 'assistant', text: 'b', state: 'stopped' },
      { role: 'assistant', text: 'c', state: 'failed', note: 'why' }
    ])
  })

  test('are not more than a browser takes: the last ones go, and one that is too large for itself alone', () => {
    const long = fresh([{ role: 'user', text: 'x'.repeat(900_000) }])
    const all = [long, { ...long, id: 'b'.repeat(32) }, { ...long, id: 'c'.repeat(32) }]
    expect(conversationsIn(textOf(all)).map(({ id }) => id)).toEqual([long.id, 'b'.repeat(32)])
    const tooLong = fresh([{ role: 'user', text: 'x'.repeat(2_100_000) }])
    expect(conversationsIn(textOf([tooLong, long])).map(({ id }) => id)).toEqual([long.id])
    const many = Array.from({ length: 40 }, () => fresh([USER]))
    expect(conversationsIn(textOf(many))).toHaveLength(MAX_CONVERSATIONS)
  })
})

describe('the chats', () => {
  test('a question that is edited takes the place of the old one and of what followed it', async () => {
    const shelf = shelfOf()
    const { chats, asked } = chatsWith(shelf)
    await chats.send('one')
    await chats.send('two')
    chats.edited.set(0)
    await chats.send('another')
    expect(chats.conversation.messages.map(({ text }) => text)).toEqual(['another', 'Hello 🦙'])
    expect(asked.at(-1)!.input).toMatchObject({ messages: [{ role: 'user', content: 'another' }] })
    expect(chats.edited.value).toBeUndefined()
    expect(conversationsIn(shelf.kept['edgeshard.conversations']!)[0]!.messages).toHaveLength(2)
  })

  test('an imported file has its conversations under new ids, beside those that are there', async () => {
    const { chats } = chatsWith(shelfOf())
    await chats.send('mine')
    const theirs = fresh([USER, DONE])
    expect(chats.import(textOf([theirs]))).toEqual({ found: 1, taken: 1 })
    expect(chats.conversation.messages).toEqual(theirs.messages)
    expect(chats.list.value.map(({ id }) => id)).not.toContain(theirs.id)
    expect(chats.list.value).toHaveLength(2)
    expect(chats.import('[{"id": "x"}]')).toEqual({ found: 0, taken: 0 })
    expect(chats.list.value).toHaveLength(2)
    expect(conversationsIn(chats.exported)).toEqual(chats.list.value)
  })

  test('no conversation goes for one of a file, here or of another tab: what there is no room for stays out', async () => {
    const mine = Array.from({ length: MAX_CONVERSATIONS - 3 }, () => fresh([USER]))
    const shelf = shelfOf({ 'edgeshard.conversations': textOf(mine) })
    const [chats, other] = [chatsWith(shelf).chats, chatsWith(shelf).chats]
    other.begin()
    await other.send('of another tab')
    const kept = () => conversationsIn(shelf.kept['edgeshard.conversations']!)
    const before = kept().map(({ id }) => id)
    const file = textOf(Array.from({ length: 5 }, () => fresh([USER, DONE])))
    expect(chats.import(file)).toEqual({ found: 5, taken: 2 })
    const after = kept().map(({ id }) => id)
    expect(after).toHaveLength(MAX_CONVERSATIONS)
    expect(after).toEqual(expect.arrayContaining(before))
    expect(chats.import(file)).toEqual({ found: 5, taken: 0 })
    const huge = JSON.stringify([fresh([{ role: 'user', text: 'x'.repeat(3_000_000) }])])
    chats.remove()
    expect(chats.import(huge)).toEqual({ found: 1, taken: 0 })
    expect(kept().map(({ id }) => id)).toEqual(expect.arrayContaining(before))
  })

  test('a person is told what of a file was not taken', () => {
    expect(saidOf('a.json', { found: 2, taken: 2 })).toBe('')
    expect(saidOf('a.json', { found: 0, taken: 0 })).toContain('is no file of conversations')
    expect(saidOf('a.json', { found: 5, taken: 2 })).toContain(
      'Of 5 conversations in a.json 2 could be taken'
    )
  })

  test('an answer ends with its conversation, where that makes room for another', async () => {
    const others = Array.from({ length: MAX_CONVERSATIONS - 1 }, () => fresh([USER]))
    const last = fresh([USER])
    const shelf = shelfOf({ 'edgeshard.conversations': textOf([...others, last]) })
    const { chats, signals } = chatsWith(shelf)
    chats.open(last.id)
    void chats.send('still under way')
    expect(signals[0]!.aborted).toBe(false)
    chats.begin()
    expect(signals[0]!.aborted).toBe(true)
  })

  test('one that is deleted is gone from the shelf; those of another tab stay there', async () => {
    const shelf = shelfOf()
    const [one, other] = [chatsWith(shelf).chats, chatsWith(shelf).chats]
    await one.send('of one tab')
    await other.send('of another tab')
    const kept = () =>
      conversationsIn(shelf.kept['edgeshard.conversations']!).map(({ messages }) => messages[0]!.text)
    expect(kept().sort()).toEqual(['of another tab', 'of one tab'])
    one.remove()
    expect(kept()).toEqual(['of another tab'])
    expect(one.conversation.messages).toEqual([])
  })

  test('a name is kept, and an empty one takes it back', async () => {
    const shelf = shelfOf()
    const { chats } = chatsWith(shelf)
    await chats.send('one')
    chats.rename('  Pumps ')
    expect(chatsWith(shelf).chats.conversation.title).toBe('Pumps')
    chats.rename('')
    expect(chatsWith(shelf).chats.conversation.title).toBeUndefined()
  })

  test('work where the browser keeps nothing, or has no more room', async () => {
    const refuse = () => {
      throw new DOMException('no', 'QuotaExceededError')
    }
    for (const shelf of [
      { getItem: refuse, setItem: refuse, removeItem: refuse },
      { ...shelfOf(), setItem: refuse }
    ]) {
      const { chats } = chatsWith(shelf)
      await chats.send('one')
      expect(chats.conversation.messages.at(-1)).toMatchObject({ state: 'done' })
      chats.set({ model: 'mine' })
      chats.rename('x')
      chats.forget()
      expect(chats.conversation.messages).toEqual([])
    }
  })
})

describe('how is asked', () => {
  const messages = (request: GenerateRequest) => (request.input.kind === 'chat' ? request.input.messages : [])

  test('instructions come first, and numbers as far as they are some', () => {
    const settings = settingsIn(
      JSON.stringify({ temperature: '0.4', maxTokens: '20', instructions: 'Be short.' })
    )
    const request = requestFor('c', [USER, { role: 'assistant', text: '' }], settings)
    expect(messages(request)).toEqual([
      { role: 'system', content: 'Be short.' },
      { role: 'user', content: USER.text }
    ])
    expect(request).toMatchObject({ temperature: 0.4, maxTokens: 20, conversation: 'c' })
    const wrong = requestFor('c', [USER], {
      ...settings,
      temperature: '3',
      maxTokens: '-1',
      instructions: ' '
    })
    expect(Object.keys(wrong)).not.toContain('temperature')
    expect(Object.keys(wrong)).not.toContain('maxTokens')
    expect(messages(wrong)).toHaveLength(1)
    expect(requestFor('c', [USER], { ...settings, wording: 'likeliest' }).temperature).toBe(0)
  })

  test.each(['x', 'null', '[]', '{"objective": "x", "privacy": 3, "temperature": {}}'])(
    'settings that are none are those of the beginning: %s',
    text => {
      expect(settingsIn(text)).toEqual(settingsIn('{}'))
    }
  )
})
