import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { newApiToken } from '../../../node/api-file.ts'
import { apiKeyOf } from '../../../node/cli/api-key.ts'
import { apiKeysOf } from '../../../node/cli/api-keys.ts'
import { type ApiServer, plainHttpNotice, startApiServer, tlsOf } from '../../../node/cli/api-server.ts'
import { createClient } from '../../../node/client/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { fakeNode } from '../http/fake-node.ts'

const [CERT, KEY] = ['cert', 'key'].map(name =>
  fileURLToPath(new URL(`../../fixtures/tls/${name}.pem`, import.meta.url))
) as [string, string]

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let server: ApiServer | undefined
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await server?.stop()
  server = undefined
  await folder[Symbol.asyncDispose]()
})

async function written(name: string, text: string): Promise<string> {
  const path = join(folder.path, name)
  await writeFile(path, text)
  return path
}

/** Status of a GET over TLS by a client that trusts the certificate alone. */
async function get(url: string, headers: Record<string, string>): Promise<number | undefined> {
  const ca = await readFile(CERT)
  return await new Promise((resolve, reject) => {
    request(url, { ca, headers, agent: false }, response => {
      response.resume()
      resolve(response.statusCode)
    })
      .on('error', reject)
      .end()
  })
}

describe('an API over TLS', () => {
  test('is HTTPS for others, and has a door for the commands of this device', async () => {
    const token = newApiToken()
    const tls = (await tlsOf({ tlsCert: CERT, tlsKey: KEY }))!
    server = await startApiServer({
      node: fakeNode(),
      host: '127.0.0.1',
      port: 0,
      apiKey: 'k',
      token,
      tls
    })
    expect(server.url).toMatch(/^https:\/\/127\.0\.0\.1:\d+$/)
    const key = { authorization: 'Bearer k' }
    expect(await get(`${server.url}/v1/models`, key)).toBe(200)
    expect(await get(`${server.url}/v1/models`, { ...key, origin: server.url })).toBe(200)
    const plain = server.url.replace('https', 'http')
    expect(await get(`${server.url}/v1/models`, { ...key, origin: 'https://box.lan' })).toBe(403)
    expect(await get(`${server.url}/v1/models`, {})).toBe(401)
    await expect(fetch(`${plain}/v1/models`)).rejects.toThrow()
    expect(await createClient({ url: server.ownUrl, token }).invite()).toBe('ticket-1')
    await expect(createClient({ url: server.ownUrl }).models()).rejects.toMatchObject({ status: 401 })
  })

  test('takes a certificate and its key, both readable, and nothing else', async () => {
    expect(await tlsOf({})).toBeUndefined()
    await expect(tlsOf({ tlsCert: CERT })).rejects.toThrow('belong together')
    await expect(tlsOf({ tlsCert: CERT, tlsKey: '/not/there' })).rejects.toThrow('/not/there')
    const other = await written('other.pem', 'no key')
    await expect(tlsOf({ tlsCert: CERT, tlsKey: other })).rejects.toMatchObject({
      code: 'invalid_input',
      message: expect.stringContaining(other)
    })
  })
})

test('an API that others can listen to is said to be so', () => {
  expect(plainHttpNotice('0.0.0.0', 'http://0.0.0.0:7447')).toMatch(/plain HTTP.*--tls-cert/)
  expect(plainHttpNotice('192.168.1.2', 'http://192.168.1.2:7447')).toMatch(/plain HTTP/)
  expect(plainHttpNotice('0.0.0.0', 'https://0.0.0.0:7447')).toBeUndefined()
  for (const host of ['127.0.0.1', 'localhost', '::1'])
    expect(plainHttpNotice(host, `http://${host}:7447`)).toBeUndefined()
})

test('an API key comes from a file or the environment, and need not be in the list of processes', async () => {
  vi.stubEnv('EDGESHARD_API_KEY', undefined)
  vi.stubEnv('EDGESHARD_API_KEY_FILE', undefined)
  expect(await apiKeyOf({})).toBeUndefined()
  const file = await written('key', 'secret-1\n')
  expect(await apiKeyOf({ apiKeyFile: file })).toBe('secret-1')
  vi.stubEnv('EDGESHARD_API_KEY', 'secret-2')
  expect(await apiKeyOf({})).toBe('secret-2')
  vi.stubEnv('EDGESHARD_API_KEY_FILE', file)
  expect(await apiKeyOf({})).toBe('secret-1')
  expect(await apiKeyOf({ apiKey: 'secret-3' })).toBe('secret-3')
  for (const text of ['', ' \n', 'two words']) {
    await expect(apiKeyOf({ apiKeyFile: await written('odd', text) })).rejects.toThrow('holds no API key')
  }
  await expect(apiKeyOf({ apiKeyFile: '/not/there' })).rejects.toMatchObject({ code: 'invalid_input' })
})

test('a file may hold keys of several, each with its name, and a limit', async () => {
  const keysIn = async (text: string) => await apiKeysOf({ apiKeyFile: await written('keys', text) })
  expect(await keysIn('secret-1\n')).toEqual([{ name: 'default', key: 'secret-1' }])
  expect(await keysIn('# who may ask\nann k-1 2\n\nbob  k-2\ncron k-3 low\neve k-4 3 high')).toEqual([
    { name: 'ann', key: 'k-1', atOnce: 2 },
    { name: 'bob', key: 'k-2' },
    { name: 'cron', key: 'k-3', priority: 'low' },
    { name: 'eve', key: 'k-4', atOnce: 3, priority: 'high' }
  ])
  expect(await apiKeysOf({ apiKey: 'k' })).toEqual([{ name: 'default', key: 'k' }])
  await expect(keysIn('ann k-1\nbob k-2 many')).rejects.toThrow(/keys:2 is no "NAME KEY /)
  await expect(keysIn('ann k-1\nbob k-1')).rejects.toThrow('the same key twice')
  await expect(keysIn('k-1\nk-2')).rejects.toThrow('holds no API key')
})
