import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { SUMMARIES } from '../../../node/cli/summaries.ts'

/** Options that scripts rely on, by command. */
const CONTRACT: Record<string, string[]> = {
  up: [
    '--home',
    '--name',
    '--port',
    '--api',
    '--memory',
    '--threads',
    '--verify',
    '--peer',
    '--no-mdns',
    '--json'
  ],
  run: [
    ...['--api', '--model', '--max-tokens', '--temperature', '--top-p', '--seed', '--objective', '--privacy'],
    ...['--top-k', '--min-p', '--repeat-penalty', '--raw', '--ids', '--logprobs', '--json', '--home']
  ],
  chat: ['--api', '--model', '--max-tokens', '--temperature', '--top-p', '--seed', '--json', '--home'],
  peers: ['--home', '--json'],
  models: ['--home', '--json'],
  import: ['--name', '--quantize', '--home', '--json'],
  pull: ['--name', '--home', '--json'],
  rm: ['--home', '--yes', '--json'],
  privacy: ['--model', '--text', '--threads', '--home', '--json'],
  profile: ['--model', '--shape', '--quantize', '--json'],
  doctor: ['--home', '--json'],
  plan: ['--scenario', '--objective', '--privacy-curve', '--text', '--threads', '--json'],
  simulate: ['--scenario', '--json'],
  bench: ['--api', '--model', '--text', '--batch', '--methods', '--cloud', '--svg', '--home', '--json'],
  invite: ['--home', '--json'],
  pair: ['--home', '--json'],
  page: ['--home', '--json'],
  join: ['--home', '--peer', '--json'],
  launch: ['--run', '--model', '--api', '--home', '--json'],
  drain: ['--home', '--stay', '--undo', '--within', '--json'],
  demo: ['--no-mdns']
}

async function commandOf(name: string): Promise<Command> {
  const module = (await import(`../../../node/cli/commands/${name}.ts`)) as Record<string, () => Command>
  return module[`${name}Command`]!()
}

test('every command of the entry is checked here', async () => {
  const main = await readFile(new URL('../../../node/cli/main.ts', import.meta.url), 'utf8')
  const names = [...main.matchAll(/import\('\.\/commands\/([a-z-]+)\.ts'\)/g)].map(([, name]) => name!)
  expect(names.length).toBeGreaterThan(10)
  expect(Object.keys(SUMMARIES).sort()).toEqual(names.toSorted())
  expect(names.filter(name => name !== 'mesh' && name !== 'service' && !(name in CONTRACT))).toEqual([])
})

describe.each(Object.entries(CONTRACT))('%s --help', (name, wanted) => {
  test('names what scripts rely on and says what each option does', async () => {
    const command = await commandOf(name)
    expect(command.name()).toBe(name)
    expect(command.description()).toMatch(/\w.*\.$/)
    const options = command.options
    expect(options.map(({ long }) => long)).toEqual(expect.arrayContaining(wanted))
    for (const { long, description } of options) expect([long, description.length > 10]).toEqual([long, true])
    for (const argument of command.registeredArguments) expect(argument.description).not.toBe('')
    expect(command.helpInformation()).not.toContain('{"')
  })
})
