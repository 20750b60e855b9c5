import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { asksRunningNode, homeOf } from '../../../node/cli/asked-node.mjs'
import { homeDir } from '../../../node/cli/home.ts'

/** No process has it: pids end far below. */
const NOBODY = 2 ** 30

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'edgeshard-asked-'))
  vi.stubEnv('EDGESHARD_HOME', undefined)
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await rm(home, { recursive: true, force: true })
})

const said = (pid: unknown) =>
  writeFile(join(home, 'api.json'), JSON.stringify({ api: 'http://127.0.0.1:1', pid }))

test('a command that asks the node of its home computes nothing itself', async () => {
  await said(process.pid)
  expect(asksRunningNode(['run', 'hi', '--home', home])).toBe(true)
  expect(asksRunningNode(['chat', `--home=${home}`])).toBe(true)
  vi.stubEnv('EDGESHARD_HOME', home)
  expect(asksRunningNode(['bench'])).toBe(true)
})

test('so does one that is told an address, wherever a node runs', () => {
  expect(asksRunningNode(['run', '--api', '127.0.0.1:7447', 'hi', '--home', home])).toBe(true)
  expect(asksRunningNode(['run', '--home', home, '--', '--api', 'is what I ask about'])).toBe(false)
})

test.each([
  ['no node has run', undefined],
  ['it was killed', NOBODY],
  ['the file is damaged', 'x']
])('a command may have to start a node where %s', async (_, pid) => {
  if (pid !== undefined) await said(pid)
  expect(asksRunningNode(['run', 'hi', '--home', home])).toBe(false)
})

test('commands that compute always do not ask', async () => {
  await said(process.pid)
  for (const command of ['up', 'demo', 'profile'])
    expect(asksRunningNode([command, '--home', home])).toBe(false)
})

test('the home is the one that the command finds', () => {
  for (const [words, option] of [
    [['--home', home], home],
    [['--home', 'there', '--home=here'], 'here'],
    [[], undefined]
  ] as const)
    expect(homeOf(words)).toBe(homeDir(option))
  vi.stubEnv('EDGESHARD_HOME', home)
  expect(homeOf([])).toBe(homeDir())
})
