import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { usageOf } from '../fixtures/command-options.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const { scripts } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8')) as {
  scripts: Record<string, string>
}
const BENCHES = Object.entries(scripts).flatMap(([name, script]) =>
  name.startsWith('bench:') ? [[name, script.replace(/^node /, '')] as const] : []
)

test.each(BENCHES)('%s says how it is called', (_, file) => {
  expect(readFileSync(`${ROOT}/${file}`, 'utf8')).toContain('commandOptions(')
})

test.each(['test/bench/scale.ts', 'test/bench/cutover.ts', 'test/bench/mesh.ts'])(
  '%s says so where an option is not known, and where it is asked',
  file => {
    const run = (option: string) =>
      spawnSync(process.execPath, [file, option], { cwd: ROOT, encoding: 'utf8' })
    const unknown = run('--unheard-of')
    expect(unknown).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('usage: npm run bench:')
    })
    expect(unknown.stderr).toContain('--unheard-of')
    expect(unknown.stderr).not.toContain('    at ')
    expect(run('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('usage: npm run bench:')
    })
  }
)

test('a usage has the options with what they are without, none of those that the command gives itself, and what it does', () => {
  const text = usageOf(
    new URL('scale.ts', import.meta.url).href,
    {
      options: {
        real: { type: 'string', default: '16,32' },
        context: { type: 'string', multiple: true, default: ['256', '1024'] },
        profile: { type: 'string' },
        links: { type: 'boolean', default: true },
        json: { type: 'boolean' },
        inside: { type: 'boolean' }
      },
      allowNegative: true,
      allowPositionals: true
    },
    ['inside']
  )
  expect(text.split('\n')[0]).toBe(
    'usage: npm run bench:scale -- [--real 16,32] [--context 256]... [--profile VALUE] [--no-links] [--json] [VALUE ...]'
  )
  expect(text).toContain('\nWhat a mesh of many devices costs and how soon all know what:')
})
