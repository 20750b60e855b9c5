import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT } from './installed.ts'

/** A command that a page shows, and what the page says that it prints, where it does. */
export interface ShownCommand {
  page: string
  /** `npx edgeshard plan --scenario ...` as it stands there, without a remark behind it. */
  line: string
  output: string
}

/** Headings of columns that tell of files which are no more. */
const PAST = ['before', 'from', 'was']
/** A path in the tree as pages write it; one with a star or a capitalised place-holder is no such. */
const PATH = /^(?:node|models|protocols|test)(?:\/[\w.-]+)*\/?$/
const FILE = /^[\w-]+\.(?:ts|mjs|c)$/

/** Every page of the project, from its root. */
export function pages(): string[] {
  const rooms = ['models', 'node', 'protocols', 'test'].flatMap(room =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' }).map(path => `${room}/${path}`)
  )
  return [...readdirSync(ROOT), ...rooms]
    .map(path => path.replaceAll('\\', '/'))
    .filter(path => path.endsWith('.md') && !path.includes('node_modules/'))
}

export function pageText(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8')
}

/** What a page says in code, in a line or as words of a sentence, of files that are there now. */
export function namedPaths(page: string): string[] {
  const text = withoutPast(pageText(page))
  const words = [...text.matchAll(/`([^`\n]+)`/g)].flatMap(([, code]) => code!.split(' '))
  return [...new Set(words)].filter(word => PATH.test(word) && word.includes('/'))
}

/** Names of files without a folder, as a room's page has them: each is somewhere in that room. */
export function namedFiles(page: string): string[] {
  const words = [...pageText(page).matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!)
  return [...new Set(words)].filter(word => FILE.test(word))
}

/** Links to other pages and files, as paths from the root. */
export function linkedPaths(page: string): string[] {
  return [...pageText(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)]
    .map(([, target]) => target!)
    .filter(target => !/^[a-z]+:/.test(target))
    .map(target => join(dirname(page), target).replaceAll('\\', '/'))
}

export function isThere(path: string): boolean {
  return existsSync(join(ROOT, path))
}

/** Files of a room by name, its folders included. */
export function filesBelow(page: string): Set<string> {
  const below = readdirSync(join(ROOT, dirname(page)), { recursive: true, encoding: 'utf8' })
  return new Set(below.map(path => path.split(/[\\/]/).at(-1)!))
}

/** The commands in a page's indented blocks, each with what stands behind the last one of its block. */
export function shownCommands(page: string): ShownCommand[] {
  const blocks = pageText(page).matchAll(/(?:^ {4}.*\n(?:\n(?= {4}))*)+/gm)
  return [...blocks].flatMap(([block]) => {
    const lines = block.split('\n').map(line => line.slice(4))
    const last = lines.findLastIndex(line => line.startsWith('npx edgeshard '))
    const output = lines
      .slice(last + 1)
      .join('\n')
      .trim()
    return lines.flatMap((line, i) =>
      line.startsWith('npx edgeshard ')
        ? [{ page, line: line.replace(/\s+# .*/, ''), output: i === last ? output : '' }]
        : []
    )
  })
}

/** The words of a command line behind `npx edgeshard`. */
export function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare!).slice(2)
}

/** What a command prints. */
export function printed(words: string[]): string {
  const cli = join(ROOT, 'node/cli/edgeshard.mjs')
  return execFileSync(process.execPath, [cli, ...words], { cwd: ROOT, encoding: 'utf8' }).trim()
}

/** A page without the cells of the columns that tell of the past. */
function withoutPast(text: string): string {
  let past: number[] = []
  let before = ''
  return text
    .split('\n')
    .map(line => {
      const cells = line.split('|')
      if (!before.startsWith('|')) past = []
      if (line.startsWith('|') && !before.startsWith('|')) {
        past = cells.flatMap((cell, i) => (PAST.includes(cell.trim()) ? [i] : []))
      }
      before = line
      return cells.filter((_, i) => !past.includes(i)).join('|')
    })
    .join('\n')
}
