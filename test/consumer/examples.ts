import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT } from './installed.ts'
import { pages } from './pages.ts'

/** The files whose first comment is what people copy from: the entries of the package. */
export const ENTRIES = [
  'node/index.ts',
  'node/client/index.ts',
  'node/http/index.ts',
  'node/plan/index.ts',
  'models/index.ts'
]

/** The TypeScript blocks of a file, in order. */
export function examplesOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  return [...text.matchAll(/^( \* |)```ts\n([\s\S]*?)^\1```$/gm)].map(([, margin, block]) =>
    block!
      .split('\n')
      .map(line => (margin === '' ? line : line.replace(/^ \* ?/, '')))
      .join('\n')
  )
}

/** An import of a file beside the page, or from there. */
const BESIDE = /from '(\.[^']+)'/g

/** Examples that import what the package exports: those of its entries, and of all pages. */
export function packageExamples(): { file: string; text: string }[] {
  return [...pages(), ...ENTRIES].flatMap(file =>
    examplesOf(file).flatMap(text => (text.match(BESIDE) === null ? [{ file, text }] : []))
  )
}

/** Examples of pages that import files of the tree, as if they stood anywhere. */
export function treeExamples(): { file: string; text: string }[] {
  return pages().flatMap(file =>
    examplesOf(file).flatMap(text => {
      if (text.match(BESIDE) === null) return []
      const absolute = (path: string) => join(ROOT, dirname(file), path).replaceAll('\\', '/')
      return [{ file, text: text.replace(BESIDE, (_, path) => `from '${absolute(path)}'`) }]
    })
  )
}
