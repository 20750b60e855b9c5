import { glob, readFile } from 'node:fs/promises'
import { expect, it } from 'vitest'

const ROOT = new URL('..', import.meta.url)
/** A rejection or an exception of which nothing is kept. */
const BARE = /\.catch\(\(\) => (\{\}|undefined)\)|\bcatch \{$/
/** What it leaves is a value that says as much: no file, no JSON, another error. */
const VALUE = /\bstat\(|^\s*(return (undefined|false)|throw )/

it('no error is swallowed without a line in the log, a value or a reason', async () => {
  const unexplained: string[] = []
  for await (const file of glob('{node,protocols,models}/**/*.ts', { cwd: ROOT })) {
    const lines = (await readFile(new URL(file, ROOT), 'utf8')).split('\n')
    lines.forEach((line, at) => {
      if (!BARE.test(line)) return
      const beside = [at - 2, at - 1, at + 1].map(near => lines[near] ?? '')
      const explained = beside.some(text => text.trimStart().startsWith('//'))
      const valued = VALUE.test(line) || VALUE.test(lines[at + 1]!)
      if (!explained && !valued) unexplained.push(`${file}:${at + 1}: ${line.trim()}`)
    })
  }
  expect(unexplained).toEqual([])
})
