import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, onTestFinished, test } from 'vitest'
import { carryOut, type Talk } from '../../../node/cli/chat-commands.ts'
import { keepHistory, readHistory } from '../../../node/cli/chat-history.ts'
import { ChatInput } from '../../../node/cli/chat-input.ts'

/** A person at a terminal: what is typed, and what is on the screen. */
function terminal(history: string[] = []) {
  const input = new PassThrough()
  let screen = ''
  const output = new PassThrough().on('data', chunk => {
    screen += chunk
  })
  const kept: string[][] = []
  const chat = new ChatInput({
    input,
    output: Object.assign(output, { columns: 80, isTTY: true }) as unknown as NodeJS.WriteStream,
    history,
    onHistory: lines => kept.push([...lines])
  })
  onTestFinished(() => chat.close())
  const messages = chat.messages()
  return {
    chat,
    input,
    kept,
    type: (text: string) => input.write(text),
    next: async () => (await messages.next()).value as string | undefined,
    screen: () => screen
  }
}

test('what is pasted is one message, however many lines it has, and waits for Enter', async () => {
  const person = terminal()
  person.type('look: \u001b[200~one\rtwo\rthree\u001b[201~')
  person.type(' and?\r')
  expect(await person.next()).toBe('look: one\ntwo\nthree and?')
  person.type('next\r')
  expect(await person.next()).toBe('next')
})

test('quotes begin and end a message of several lines', async () => {
  const person = terminal()
  person.type('"""one\r\r  two\r"""\rthree\r')
  expect(await person.next()).toBe('one\n\n  two\n')
  expect(await person.next()).toBe('three')
})

test('what is typed during an answer is shown behind it, and asked then', async () => {
  const person = terminal()
  person.type('first\r')
  await person.next()
  const before = person.screen()
  const read = new Promise<void>(resolve => person.input.on('keypress', key => key === 'i' && resolve()))
  person.type('second\rthi')
  await read
  expect(person.screen()).toBe(before)
  expect(await person.next()).toBe('second')
  expect(person.screen()).toContain('> second\n')
  const third = person.next()
  expect(person.screen()).toMatch(/> thi[^\n]*$/)
  person.type('rd\r')
  expect(await third).toBe('third')
})

test('of several messages that are typed at once each is shown when its turn comes', async () => {
  const person = terminal()
  person.type('/model\r/help\rlast\r')
  const shown: (string | number)[] = []
  for (let i = 0; i < 3; i++) {
    shown.push((await person.next())!)
    shown.push([...person.screen().matchAll(/\/help|last/g)].length)
  }
  expect(shown).toEqual(['/model', 0, '/help', 1, 'last', 2])
})

test('the terminal marks what is pasted for as long as the conversation lasts', async () => {
  const person = terminal()
  expect(person.screen()).toContain('\u001b[?2004h')
  person.chat.close()
  expect(person.screen()).toContain('\u001b[?2004l')
  expect(await person.next()).toBeUndefined()
})

test('earlier lines are there with the arrow up, and new ones are told of, the newest first', async () => {
  const person = terminal(['older', 'oldest'])
  person.type('\u001b[A\r')
  expect(await person.next()).toBe('older')
  person.type('new\r')
  expect(await person.next()).toBe('new')
  expect(person.kept.at(-1)).toEqual(['new', 'older', 'oldest'])
})

test('history outlives the conversation, in a file for its owner alone; a damaged one is none', async () => {
  const home = await mkdtemp(join(tmpdir(), 'edgeshard-chat-'))
  onTestFinished(() => rm(home, { recursive: true, force: true }))
  expect(await readHistory(home)).toEqual([])
  await keepHistory(home, ['new', 'old'])
  expect(await readHistory(home)).toEqual(['new', 'old'])
  expect((await stat(join(home, 'history.json'))).mode & 0o077).toBe(0)
  await writeFile(join(home, 'history.json'), '{"a"')
  expect(await readHistory(home)).toEqual([])
  await writeFile(join(home, 'history.json'), '[1, "two"]')
  expect(await readHistory(home)).toEqual(['two'])
  await keepHistory(join(home, 'history.json', 'no folder'), ['x'])
})

test('a conversation is saved as Markdown or JSON, over no file that is there', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-chat-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const talk: Talk = {
    messages: [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: 'Hello' }
    ],
    model: undefined
  }
  const told = async (text: string) => {
    const done = await carryOut(text, talk, { node: { models: async () => [] }, beginning: () => [] })
    return done.kind === 'said' ? done.text : done.kind
  }
  const path = join(folder, 'my talk.md')
  expect(await told(`/save ${path}`)).toBe(`the conversation is in ${path}: 2 messages`)
  expect(await readFile(path, 'utf8')).toBe('**user**\n\nhi\n\n**assistant**\n\nHello\n')
  expect(await told(`/save ${path}`)).toBe(`${path} is there already: say another name`)
  expect(await told('/save')).toBe('say where to: /save FILE')
  expect(await told('/usr/bin is what?')).toBe('message')
  expect(await told('/clear\nof what')).toBe('message')
  expect(await told('/bye')).toBe('exit')
  expect(await told('/help')).toContain('/save FILE')
})
