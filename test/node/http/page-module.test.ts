import { expect, test } from 'vitest'
import { oneModule } from '../../../node/http/page-module.ts'

/** Runs one module made of these; its last line says what the entry has put together. */
async function run(
  modules: Record<string, string>,
  libraries: Record<string, object> = {}
): Promise<unknown> {
  const code = await oneModule('a/main.js', async path => modules[path]!)
  const body = code.replace(/^import \* as (\w+) from '(.+)'$/gm, "const $1 = libraries['$2']")
  const said: unknown[] = []
  new Function('libraries', 'say', body)(libraries, (what: unknown) => said.push(what))
  return said
}

test('modules find each other, run once and in their order, and keep their names to themselves', async () => {
  const said = await run(
    {
      'a/main.js':
        `import whole, { } from 'x'`.replace(', { }', '') +
        `\nimport {       b, c as d } from './b.js';\nimport { shared } from '../shared.js'\nimport { one,\n  two } from 'y'\nconst own = 'main'\nsay([own, b(), d, shared, whole, one + two])\nexport {};\n`,
      'a/b.js': `import { shared } from '../shared.js'\nconst own = 'b'\nexport function b() { return own + shared }\nexport * from './c.js'\n`,
      'a/c.js': `say('c')\nexport const c = 1\nexport class Unused {}\nexport async function* pieces() {}\n`,
      'shared.js': `say('shared')\nexport const shared = 's'\n`
    },
    { x: { default: 'w' }, y: { one: 1, two: 2 } }
  )
  expect(said).toEqual(['shared', 'c', ['main', 'bs', 1, 's', 'w', 3]])
})

test.each([
  ['a name for everything', `import * as all from './b.js'`],
  ['an export of another name', `const b = 1\nexport { b as c }`],
  ['a default', 'export default 1'],
  ['a name that changes', 'export let b = 1']
])('%s is refused rather than left out', async (_, code) => {
  const modules: Record<string, string> = { 'a/main.js': code, 'a/b.js': '' }
  await expect(oneModule('a/main.js', async path => modules[path]!)).rejects.toThrow(/a\/main\.js has what/)
})

test('modules that import each other are refused', async () => {
  const modules: Record<string, string> = {
    'a/main.js': `import { b } from './b.js'`,
    'a/b.js': `import { a } from './main.js'\nexport const b = 1`
  }
  await expect(oneModule('a/main.js', async path => modules[path]!)).rejects.toThrow('a/main.js comes to')
})
