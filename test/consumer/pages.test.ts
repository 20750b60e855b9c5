import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import {
  filesBelow,
  isThere,
  linkedPaths,
  namedFiles,
  namedPaths,
  pages,
  pageText,
  printed,
  shownCommands,
  wordsOf
} from './pages.ts'

const PAGES = pages()
const COMMANDS = PAGES.flatMap(shownCommands)
const { scripts } = JSON.parse(pageText('package.json')) as { scripts: Record<string, string> }

test('every room has a page', () => {
  const rooms = ['models', 'node', 'node/source', 'node/stage', 'node/mesh', 'node/plan', 'protocols', 'test']
  expect(PAGES).toEqual(expect.arrayContaining(rooms.map(room => `${room}/README.md`)))
})

describe.each(PAGES)('%s', page => {
  test('names and links what is there', () => {
    expect([...namedPaths(page), ...linkedPaths(page)].filter(path => !isThere(path))).toEqual([])
    if (!page.includes('/')) return
    const below = filesBelow(page)
    expect(namedFiles(page).filter(file => !below.has(file))).toEqual([])
  })

  test('names scripts of package.json', () => {
    const named = [...pageText(page).matchAll(/npm run ([a-z:-]+)(?![a-z:-]|[A-Z])/g)].map(
      ([, name]) => name!
    )
    expect(named.filter(name => !(name in scripts))).toEqual([])
  })
})

test('ARCHITECTURE.md names enough for its ten steps to be followed', () => {
  expect(namedPaths('ARCHITECTURE.md').length).toBeGreaterThan(50)
})

describe('commands that pages show', () => {
  test('there are some', () => {
    expect(new Set(COMMANDS.map(({ line }) => wordsOf(line)[0])).size).toBeGreaterThan(8)
  })

  test.each(COMMANDS)('$page: $line has options that the command knows', async ({ line }) => {
    const [name, ...words] = wordsOf(line)
    const module = (await import(`../../node/cli/commands/${name}.ts`)) as Record<string, () => Command>
    const command = module[`${name}Command`]!()
    const asked = command.commands.find(inner => inner.name() === words[0]) ?? command
    const known = asked.options.map(({ long }) => long)
    expect(words.filter(word => word.startsWith('--') && !known.includes(word))).toEqual([])
  })

  const offline = COMMANDS.filter(({ line }) => line.includes('--scenario'))
  test.each(offline)('$page: $line runs, and prints what the page says', ({ line, output }) => {
    const text = printed(wordsOf(line))
    expect(text).not.toBe('')
    if (output !== '') expect(text).toBe(output)
  })
})
