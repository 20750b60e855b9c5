import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { upCommand } from '../../../node/cli/commands/up.ts'
import { fileSettings } from '../../../node/cli/settings.ts'
import { SCHEMA_FILE, schemaText } from '../../consumer/config-schema.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'

type Values = Record<string, unknown>

let folder: Awaited<ReturnType<typeof temporaryFolder>>
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await folder[Symbol.asyncDispose]()
})

/** What `up` would run with. */
async function settled(
  words: string[],
  environment: Record<string, string> = {},
  file?: unknown
): Promise<Values> {
  const command = upCommand()
    .exitOverride()
    .action(() => {})
  const path = join(folder.path, 'edgeshard.json')
  if (file !== undefined) await writeFile(path, typeof file === 'string' ? file : JSON.stringify(file))
  for (const [name, text] of Object.entries(environment)) vi.stubEnv(name, text)
  await command.parseAsync([...(file === undefined ? [] : ['--config', path]), ...words], { from: 'user' })
  return command.opts()
}

/** A value of every option, as a file and as the environment have it, and what it becomes. */
const SAMPLES: Record<string, { json: unknown; text: string; value: unknown }> = {
  home: { json: '/srv/e', text: '/srv/e', value: '/srv/e' },
  name: { json: 'press-4', text: 'press-4', value: 'press-4' },
  port: { json: 7000, text: '7000', value: 7000 },
  api: { json: '0.0.0.0:80', text: '0.0.0.0:80', value: { host: '0.0.0.0', port: 80 } },
  'allow-origin': {
    json: ['http://a', 'http://b'],
    text: 'http://a,http://b',
    value: ['http://a', 'http://b']
  },
  'allow-host': { json: 'plant.lan', text: 'plant.lan', value: ['plant.lan'] },
  'tls-cert': { json: '/c.pem', text: '/c.pem', value: '/c.pem' },
  'tls-key': { json: '/k.pem', text: '/k.pem', value: '/k.pem' },
  memory: { json: '4GiB', text: '4GiB', value: 4 * 2 ** 30 },
  'prefix-cache-disk': { json: '2GiB', text: '2GiB', value: 2 ** 31 },
  'prefix-cache': { json: '1GiB', text: '1GiB', value: 2 ** 30 },
  standby: { json: true, text: '1', value: true },
  prefetch: { json: '0', text: '0', value: 0 },
  threads: { json: 3, text: '3', value: 3 },
  device: { json: 'auto', text: 'auto', value: 'auto' },
  'gpu-memory': { json: '2GiB', text: '2GiB', value: 2 * 2 ** 30 },
  verify: { json: 0, text: '0', value: 0 },
  peer: {
    json: ['/ip4/10.0.0.1/tcp/1', '/ip4/10.0.0.2/tcp/1'],
    text: '/ip4/10.0.0.1/tcp/1 /ip4/10.0.0.2/tcp/1',
    value: ['/ip4/10.0.0.1/tcp/1', '/ip4/10.0.0.2/tcp/1']
  },
  mdns: { json: false, text: 'no', value: false },
  bundled: { json: true, text: '1', value: true },
  'keep-alive': { json: '5m', text: '5m', value: 300_000 },
  speculate: { json: 'ngram', text: 'ngram', value: 'ngram' },
  draft: { json: 'small', text: 'small', value: 'small' },
  exact: { json: true, text: 'true', value: true },
  drain: { json: 20, text: '20', value: 20 },
  'audit-log': { json: '/a.log', text: '/a.log', value: '/a.log' },
  'audit-size': { json: '1MiB', text: '1MiB', value: 2 ** 20 },
  json: { json: true, text: 'on', value: true },
  'api-key-file': { json: '/keys', text: '/keys', value: '/keys' },
  'api-key': { json: 'k', text: 'k', value: 'k' },
  'log-level': { json: 'debug', text: 'debug', value: 'debug' },
  'log-format': { json: 'json', text: 'json', value: 'json' }
}
const KEY_OPTIONS = ['api-key', 'api-key-file']
const SETTINGS = fileSettings(upCommand())

describe('every option of up', () => {
  test('has a sample here', () => {
    expect(SETTINGS.map(({ name }) => name).toSorted()).toEqual(Object.keys(SAMPLES).toSorted())
  })

  test.each(SETTINGS)('$name is read from a file', async ({ name, attribute }) => {
    const { json, value } = SAMPLES[name]!
    expect((await settled([], {}, { [name]: json }))[attribute]).toEqual(value)
  })

  test.each(SETTINGS.filter(({ name }) => !KEY_OPTIONS.includes(name)))(
    '$name is read from $variable, which goes before a file',
    async ({ name, attribute, variable }) => {
      const { text, value } = SAMPLES[name]!
      const other = { mdns: true, bundled: false, exact: false, standby: false, json: false }[name]
      const file = other === undefined ? {} : { [name]: other }
      expect((await settled([], { [variable]: text }, file))[attribute]).toEqual(value)
    }
  )
})

describe('what goes first', () => {
  test('is the command line, then the environment, then the file, then what is usual', async () => {
    const file = { name: 'file', memory: '1GiB', threads: 1 }
    const environment = { EDGESHARD_NAME: 'environment', EDGESHARD_MEMORY: '2GiB' }
    const values = await settled(['--name', 'line'], environment, file)
    expect(values).toMatchObject({ name: 'line', memory: 2 * 2 ** 30, threads: 1, drain: 8, mdns: true })
  })

  test('an empty variable is none', async () => {
    expect((await settled([], { EDGESHARD_THREADS: '' })).threads).toBeUndefined()
  })

  test.each(['tcp://10.0.0.1:7447', 'udp://10.0.0.1:7447'])(
    'a port that Kubernetes has set, %s, is none, and that is said once',
    async text => {
      const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
      try {
        expect((await settled([], { EDGESHARD_PORT: text })).port).toBeUndefined()
        expect(said.mock.calls.map(([line]) => line)).toEqual([
          expect.stringMatching(/^edgeshard: note: EDGESHARD_PORT /)
        ])
        expect((await settled([], { EDGESHARD_PORT: text }, { port: 7000 })).port).toBe(7000)
        said.mockClear()
        expect((await settled(['--port', '7001'], { EDGESHARD_PORT: text })).port).toBe(7001)
        expect(said).not.toHaveBeenCalled()
        await expect(settled([], { EDGESHARD_API: text })).rejects.toThrow('EDGESHARD_API')
      } finally {
        said.mockRestore()
      }
    }
  )

  test('the file may be named by the environment', async () => {
    const path = join(folder.path, 'named.json')
    await writeFile(path, '{"name": "a"}')
    expect((await settled([], { EDGESHARD_CONFIG: path })).name).toBe('a')
  })

  test('a key of the environment is not undone by a file', async () => {
    const values = await settled([], { EDGESHARD_API_KEY: 'k' }, { 'api-key-file': '/keys' })
    expect(values.apiKeyFile).toBeUndefined()
  })
})

describe('a configuration file is refused by name', () => {
  test.each([
    ['a misspelt option, with what it is near to', { memroy: '4GiB' }, /"memroy"; is "memory" meant\?/],
    ['camel case', { keepAlive: '5m' }, /"keepAlive"; is "keep-alive" meant\?/],
    ['an option that is none, with all that there are', { gpu: true }, /"gpu"; there are home, name, port/],
    ['what is no value', { memory: 'much' }, /json: memory: "much" will not do\. Give a size/],
    ['another type', { port: '7446' }, /json: port: a whole number from 0 to 65535 is expected/],
    ['a switch that is none', { exact: 'yes' }, /json: exact: true or false is expected/],
    ['what is no choice', { speculate: 'much' }, /json: speculate: "much" will not do/],
    ['a list with what is no text', { peer: [1] }, /json: peer: a list of texts is expected/],
    ['the file itself', { config: 'other.json' }, /"config"; there are/],
    ['no object', [1], /one object of options is expected/],
    ['no JSON', '{"name": ', /is no JSON/]
  ])('%s', async (_, file, message) => {
    await expect(settled([], {}, file)).rejects.toMatchObject({
      code: 'invalid_input',
      message: expect.stringMatching(message)
    })
  })

  test('one that is not there', async () => {
    await expect(settled(['--config', join(folder.path, 'none.json')])).rejects.toThrow(
      'the configuration cannot be read'
    )
  })

  test('and so is a variable, by its own', async () => {
    await expect(settled([], { EDGESHARD_EXACT: 'maybe' })).rejects.toThrow(
      'EDGESHARD_EXACT: give 1 or 0, not "maybe"'
    )
    await expect(settled([], { EDGESHARD_PORT: '70000' })).rejects.toThrow('EDGESHARD_PORT: "70000"')
  })
})

describe('the schema', () => {
  test('lies in the package as the options have it (npm run config-schema)', () => {
    expect(JSON.parse(readFileSync(SCHEMA_FILE, 'utf8'))).toEqual(JSON.parse(schemaText()))
  })

  test('may be named by a file', async () => {
    expect(await settled([], {}, { $schema: './config.schema.json', name: 'a' })).toMatchObject({ name: 'a' })
  })
})
