import { execFile, spawnSync } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SUMMARIES } from '../../../node/cli/summaries.ts'
import { VERSION } from '../../../node/version.ts'
import { deadlineMs } from '../../fixtures/machine.ts'

const EDGESHARD = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))
const LOADED = new URL('loaded-modules.mjs', import.meta.url).href

/** Packages for options and tables; asking a node takes none, and what draws in a terminal is loaded for one alone. */
const EXPECTED = [
  'commander',
  'cli-table3',
  ...['string-width', 'strip-ansi', 'ansi-regex', 'is-fullwidth-code-point', 'emoji-regex']
]

/** Something that is no node, and says so at once. */
const server = createServer((_, response) => response.writeHead(404).end())
let api: string
beforeAll(async () => {
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())

/** What a command has loaded when it ends. */
async function loadedBy(
  args: string[]
): Promise<{ packages: string[]; own: string[]; ofNode: string[]; stdout: string }> {
  const { stdout, stderr } = await new Promise<{ stdout: string; stderr: string }>(resolve => {
    const options = { timeout: deadlineMs(5_000), input: '' }
    const child = execFile(
      process.execPath,
      ['--import', LOADED, EDGESHARD, ...args],
      options,
      (_, stdout, stderr) => resolve({ stdout, stderr })
    )
    child.stdin?.end('hi\n')
  })
  const urls = JSON.parse(/^loaded (.*)$/m.exec(stderr)![1]!) as string[]
  const packages = urls.flatMap(url => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url)?.[1] ?? [])
  const own = urls.flatMap(url => /\/((?:node|models|protocols)\/.*\.ts)$/.exec(url)?.[1] ?? [])
  const ofNode = urls.filter(url => url.startsWith('internal/'))
  return { packages: [...new Set(packages)], own, ofNode, stdout }
}

test.each([
  ['run', 'hi', '--api'],
  ['chat', '--api'],
  ['peers', '--api']
])(
  '%s loads what it takes to ask a node, and nothing of the network, the schemas or the runtime',
  async (...args) => {
    const { packages, own, ofNode } = await loadedBy([...args, api])
    expect(packages).toContain('commander')
    expect(packages.filter(name => !EXPECTED.includes(name))).toEqual([])
    expect(own).toContain('node/cli/main.ts')
    // Node's own fetch, which takes a third of all that a command takes.
    expect(ofNode.length).toBeGreaterThan(10)
    expect(ofNode.filter(name => name.includes('undici'))).toEqual([])
    expect(own.filter(file => /^(protocols|node\/(plan|stage|serve|weights|http))\//.test(file))).toEqual([])
  }
)

test('the version takes the launcher alone', async () => {
  const { packages, own, stdout } = await loadedBy(['--version'])
  expect([packages, own]).toEqual([[], []])
  expect(stdout).toBe(`${VERSION}\n`)
})

test('the list of commands loads none of them, and says of each what it is for', async () => {
  const { own, stdout } = await loadedBy(['--help'])
  expect(own.filter(file => file.startsWith('node/cli/commands/'))).toEqual([])
  expect(own).toContain('node/cli/summaries.ts')
  for (const [name, summary] of Object.entries(SUMMARIES))
    expect(stdout).toMatch(new RegExp(`^  ${name} +${summary}$`, 'm'))
})

test.skipIf(process.platform !== 'linux' || spawnSync('script', ['--version']).error !== undefined)(
  'a terminal is told that something happens before the rest is loaded, and that goes when there is more to say (script of util-linux)',
  async () => {
    const line = [process.execPath, EDGESHARD, 'peers', '--api', api].map(word => `'${word}'`).join(' ')
    const text = await new Promise<string>(resolve => {
      const options = { timeout: deadlineMs(5_000) }
      execFile('script', ['-qec', line, '/dev/null'], options, (_, stdout) => resolve(stdout))
    })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what clears a terminal's line.
    expect(text).toMatch(/^starting, \d+\.\d s\r\u001b\[K.*asking the node at/s)
  }
)
