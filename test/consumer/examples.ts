import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './installed.ts'

/** The files whose examples people copy: the README, and the first comment of each entry of the package. */
export const DOCUMENTED = [
  'README.md',
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
