import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { upCommand } from '../../../node/cli/commands/up.ts'
import { type NodeForProgram, PROGRAM_NAMES, shellLines, startOf } from '../../../node/cli/programs.ts'
import { fileSettings } from '../../../node/cli/settings.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { fakeNode } from '../http/fake-node.ts'

const EDGESHARD = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))
const NODE: NodeForProgram = {
  url: 'http://127.0.0.1:7447',
  apiKey: "it's secret",
  model: 'qwen3-8b',
  contextLength: 40_960
}

test('no recipe names a variable that configures the node itself', () => {
  const recipes = readFileSync(new URL('../../../node/http/RECIPES.md', import.meta.url), 'utf8')
  const named = [...new Set(recipes.match(/\bEDGESHARD_\w+/g))]
  const variables = fileSettings(upCommand()).map(({ variable }) => variable)
  expect(variables).toContain('EDGESHARD_API_KEY')
  expect(named.filter(name => variables.includes(name))).toEqual([])
})

describe('each program is told', () => {
  test.each(PROGRAM_NAMES)('%s: the address, the model and the key', program => {
    const { command, env, args } = startOf(program, NODE)!
    const all = [...Object.values(env), ...args]
    expect(command).toBe(program)
    for (const told of [NODE.url, NODE.model]) expect(all.some(value => value.includes(told))).toBe(true)
    expect(Object.values(env)).toContain(NODE.apiKey)
    // In arguments every user of the device could read it.
    expect(args.some(value => value.includes(NODE.apiKey!))).toBe(false)
  })

  test('OpenCode: a configuration of its own form', () => {
    const { env } = startOf('opencode', NODE)!
    expect(JSON.parse(env.OPENCODE_CONFIG_CONTENT!)).toEqual({
      model: 'edgeshard/qwen3-8b',
      provider: {
        edgeshard: {
          npm: '@ai-sdk/openai-compatible',
          name: 'EdgeShard',
          options: { baseURL: 'http://127.0.0.1:7447/v1', apiKey: '{env:EDGESHARD_LAUNCH_KEY}' },
          models: { 'qwen3-8b': { name: 'qwen3-8b', limit: { context: 40_960, output: 10_240 } } }
        }
      }
    })
  })

  test.each(PROGRAM_NAMES)('%s: nothing that edgeshard would read as an option of its own', program => {
    const { env } = startOf(program, { ...NODE, apiKey: undefined })!
    const variables = fileSettings(upCommand()).map(({ variable }) => variable)
    expect(Object.keys(env).filter(name => variables.includes(name))).toEqual([])
  })

  test('Codex: the variable that has the key', () => {
    const { env, args } = startOf('codex', NODE)!
    expect(env).toEqual({ EDGESHARD_LAUNCH_KEY: NODE.apiKey })
    expect(args).toContain('model_providers.edgeshard.env_key="EDGESHARD_LAUNCH_KEY"')
  })

  test('none that is not known', () => {
    expect(startOf('constructor', NODE)).toBeUndefined()
  })
})

test('lines are those of a shell, whatever stands in them', async () => {
  const start = { command: 'aider', env: { KEY: "it's $HOME `x`" }, args: ['--model', "a'b"] }
  expect(shellLines(start, 'powershell')).toEqual(["$env:KEY = 'it''s $HOME `x`'", "aider --model 'a''b'"])
  const [line] = shellLines(start, 'sh')
  if (process.platform === 'win32') return
  const { stdout } = await promisify(execFile)('sh', ['-c', `${line}; printf %s "$KEY"`])
  expect(stdout).toBe(start.env.KEY)
})

describe('edgeshard launch', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let server: HttpServer
  let running: AsyncDisposable
  const node = fakeNode()
  beforeEach(async () => {
    folder = await temporaryFolder()
    server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    running = await runningHome(folder.path, { api: server.url })
  })
  afterEach(async () => {
    await running[Symbol.asyncDispose]()
    await server.stop()
    await folder[Symbol.asyncDispose]()
  })

  function launch(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
    const bin = join(folder.path, 'bin')
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      EDGESHARD_HOME: folder.path,
      PATH: `${bin}${delimiter}${process.env.PATH}`
    }
    delete env.EDGESHARD_API_KEY
    const child = spawn(process.execPath, [EDGESHARD, 'launch', ...args], { env })
    const ended = { status: null as number | null, stdout: '', stderr: '' }
    child.stdout.on('data', data => void (ended.stdout += String(data)))
    child.stderr.on('data', data => void (ended.stderr += String(data)))
    return new Promise(resolve => child.on('close', status => resolve({ ...ended, status })))
  }

  test('prints what a program has to be told of the node that runs', async () => {
    const { status, stdout } = await launch('aider', '--json')
    expect([status, JSON.parse(stdout)]).toEqual([
      0,
      {
        command: 'aider',
        env: { OPENAI_API_BASE: `${server.url}/v1`, OPENAI_API_KEY: 'none' },
        args: ['--model', 'openai/tiny']
      }
    ])
  })

  test.each([
    [['emacs'], 'these are: claude'],
    [['claude', '--model', 'huge'], 'there is only tiny'],
    [['claude', '--', '-p'], '--run'],
    [['claude', '--run', '--json'], 'choose one']
  ])('%j is refused', async (args, text) => {
    const { status, stdout, stderr } = await launch(...args)
    expect([status, stdout, stderr]).toEqual([2, '', expect.stringContaining(text)])
  })

  test.each([
    "x'; touch y; '",
    'a b',
    '--config',
    '{env:HOME}',
    `x
y`
  ])('a peer that calls a model %j is not believed, and its id will do', async name => {
    const [tiny] = await node.models()
    const models = vi.spyOn(node, 'models').mockResolvedValue([{ ...tiny!, name }])
    try {
      for (const asked of [[], [`--model=${name}`]]) {
        const { status, stdout, stderr } = await launch('codex', ...asked)
        expect([status, stdout, stderr]).toEqual([2, '', expect.stringContaining('is no name of a model')])
      }
      const { status, stdout } = await launch('aider', '--json', '--model', tiny!.id)
      expect([status, JSON.parse(stdout).args]).toEqual([0, ['--model', `openai/${tiny!.id}`]])
    } finally {
      models.mockRestore()
    }
  })

  test.skipIf(process.platform === 'win32')('starts the program, and ends as it does', async () => {
    const bin = join(folder.path, 'bin')
    await mkdir(bin)
    const path = join(bin, 'goose')
    await writeFile(path, '#!/bin/sh\necho "$GOOSE_MODEL at $OPENAI_HOST: $*"\nexit 7\n')
    await chmod(path, 0o755)
    const { status, stdout } = await launch(
      'goose',
      '--run',
      '--api-key',
      'k',
      '--',
      'session',
      '--text',
      'a b'
    )
    expect([status, stdout]).toEqual([7, `tiny at ${server.url}: session --text a b\n`])
  })

  test('says that a program is not there', async () => {
    const { status, stderr } = await launch('qwen', '--run')
    expect([status, stderr]).toEqual([2, expect.stringContaining('qwen cannot be started')])
  })
})
