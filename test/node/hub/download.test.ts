import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { listRepository, readRemote } from '../../../node/hub/client.ts'
import { downloadFiles } from '../../../node/hub/download.ts'
import { proxyFromEnvironment } from '../../../node/hub/proxy.ts'
import { type Choice, chooseFiles, parseRepository, type RemoteFile } from '../../../node/hub/repository.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { HubServer } from '../../fixtures/hub-server.ts'
import { prng } from '../../fixtures/prng.ts'

const random = prng(1)
const weights = Uint8Array.from({ length: 3_000_000 }, () => random() * 256)
const config = new TextEncoder().encode('{"model_type":"llama"}')
const repository = { name: 'owner/model', revision: 'main' }

/** All files of a choice; an index is not read here. */
function all(choice: Choice, indexed?: string[]): RemoteFile[] {
  return choice.format === 'gguf' ? choice.files : [...choice.files, ...choice.weights(indexed)]
}

describe('downloadFiles', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let hub: HubServer
  beforeEach(async () => {
    folder = await temporaryFolder()
    hub = await HubServer.start([
      { path: 'config.json', bytes: config },
      { path: 'tokenizer.json', bytes: new Uint8Array(0) },
      { path: 'model.safetensors', bytes: weights, lfs: true },
      { path: 'pytorch_model.bin', bytes: config, lfs: true },
      { path: '../evil.json', bytes: config }
    ])
  })
  afterEach(async () => {
    await hub[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })
  const bodies = () => hub.requests.filter(r => r.includes('model.safetensors'))

  async function pull(
    options: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {}
  ) {
    const from = { endpoint: hub.url, retryMs: 1, ...options }
    const files = all(chooseFiles(repository, await listRepository(repository, from)))
    await downloadFiles(repository, files, join(folder.path, 'to'), from)
  }

  it('brings the files that an import needs, and no others, with their bytes', async () => {
    const progress: number[] = []
    await pull({ onProgress: done => progress.push(done) })
    expect((await readdir(join(folder.path, 'to'))).sort()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json'
    ])
    expect(Buffer.compare(await readFile(join(folder.path, 'to', 'model.safetensors')), weights)).toBe(0)
    expect(progress.at(-1)).toBe(weights.byteLength + config.byteLength)
    expect(progress).toEqual([...progress].sort((a, b) => a - b))
  })

  it('goes on where a broken connection stopped', async () => {
    hub.cutAfter = [config.byteLength, 1_000_000, 500_000]
    await pull()
    expect(Buffer.compare(await readFile(join(folder.path, 'to', 'model.safetensors')), weights)).toBe(0)
    const starts = bodies().map(r => Number(/bytes=(\d+)-/.exec(r)?.[1] ?? 0))
    // What was under way when a connection breaks may be lost with it, what was received before is not asked for again.
    expect(starts).toHaveLength(3)
    expect(starts[0]).toBe(0)
    expect(starts[1]).toBeGreaterThan(500_000)
    expect(starts[1]).toBeLessThanOrEqual(1_000_000)
    expect(starts[2]).toBeGreaterThan(starts[1]!)
    expect(starts[2]).toBeLessThanOrEqual(1_500_000)
  })

  it('goes on where an interrupted pull stopped', async () => {
    const interrupt = new AbortController()
    const interrupted = pull({
      signal: interrupt.signal,
      onProgress: done => done > 500_000 && interrupt.abort()
    })
    await expect(interrupted).rejects.toMatchObject({ name: 'AbortError' })
    const [part] = (await readdir(join(folder.path, 'to'))).filter(f => f.endsWith('.part'))
    expect(part).toMatch(/^model\.safetensors\./)
    hub.requests.length = 0
    await pull()
    expect(Number(/bytes=(\d+)-/.exec(bodies()[0]!)![1])).toBeGreaterThan(0)
    expect(Buffer.compare(await readFile(join(folder.path, 'to', 'model.safetensors')), weights)).toBe(0)
  })

  it('throws away what does not hash to what the hub lists', async () => {
    const files = all(chooseFiles(repository, await listRepository(repository, { endpoint: hub.url })))
    hub.files[2]!.bytes = weights.map(b => b ^ 1)
    const to = join(folder.path, 'to')
    await expect(downloadFiles(repository, files, to, { endpoint: hub.url })).rejects.toThrow(
      /its hash differs/
    )
    expect((await readdir(to)).sort()).toEqual(['config.json', 'tokenizer.json'])
  })

  it('brings another version of a file of the same size, and nothing twice', async () => {
    await pull()
    hub.requests.length = 0
    await pull()
    expect(bodies()).toEqual([])
    const changed = weights.map(b => b ^ 1)
    hub.files[2]!.bytes = changed
    await pull()
    expect(Buffer.compare(await readFile(join(folder.path, 'to', 'model.safetensors')), changed)).toBe(0)
  })

  it('begins anew where a part of another version is left', async () => {
    await mkdir(join(folder.path, 'to'), { recursive: true })
    await writeFile(join(folder.path, 'to', 'model.safetensors.0123456789abcdef.part'), new Uint8Array(10))
    await pull()
    expect(Buffer.compare(await readFile(join(folder.path, 'to', 'model.safetensors')), weights)).toBe(0)
  })

  it('gives up, with what is wrong, when nothing comes', async () => {
    hub.cutAfter = [config.byteLength, 0, 0, 0, 0, 0]
    await expect(pull()).rejects.toMatchObject({ name: 'DownloadError' })
  })

  it('says that a token is needed, and sends the one there is', async () => {
    hub.token = 'hf_secret'
    await expect(listRepository(repository, { endpoint: hub.url })).rejects.toThrow(
      /does not let you read.*HF_TOKEN/
    )
    const listed = await listRepository(repository, { endpoint: hub.url, token: 'hf_secret' })
    expect(listed.filter(({ type }) => type === 'file')).toHaveLength(5)
    await expect(
      listRepository({ name: 'owner/none', revision: 'main' }, { endpoint: hub.url, token: 'hf_secret' })
    ).rejects.toThrow(/the hub has no owner\/none@main/)
  })
})

describe('a hub that is busy, far, or a mirror', () => {
  let hub: HubServer
  beforeEach(async () => {
    hub = await HubServer.start([{ path: 'a.gguf', bytes: weights, lfs: true }])
  })
  afterEach(() => hub[Symbol.asyncDispose]())
  const read = async (range: [number, number], hubOptions = { endpoint: hub.url }) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of readRemote(repository, 'a.gguf', range, hubOptions)) chunks.push(chunk)
    return Buffer.concat(chunks)
  }

  it('is asked again when it says, and then gives what it has', async () => {
    const waits: [number, number][] = []
    const onWait = (status: number, waitMs: number) => waits.push([status, waitMs])
    hub.busy = [{ status: 429, retryAfter: '0' }, { status: 503 }, { status: 500 }]
    expect(await listRepository(repository, { endpoint: hub.url, retryMs: 1, onWait })).toHaveLength(1)
    expect(waits).toEqual([
      [429, 0],
      [503, 2],
      [500, 4]
    ])
    hub.busy = [{ status: 429, retryAfter: new Date(0).toUTCString() }]
    expect(await read([0, 10])).toEqual(Buffer.from(weights.subarray(0, 10)))
  })

  it('is given up when it stays busy, or would be for long', async () => {
    const options = { endpoint: hub.url, retryMs: 1 }
    hub.busy = Array.from({ length: 5 }, () => ({ status: 503 }))
    await expect(listRepository(repository, options)).rejects.toMatchObject({
      name: 'DownloadError',
      message: expect.stringMatching(/could not be listed: the hub answers 503/)
    })
    expect(hub.busy).toEqual([])
    hub.busy = [{ status: 429, retryAfter: '86400' }]
    await expect(listRepository(repository, options)).rejects.toThrow(/the hub answers 429/)
  })

  it('gives parts of files, also where it knows no ranges', async () => {
    for (const ranges of [true, false]) {
      hub.ranges = ranges
      expect(await read([1_000_000, 1_500_000])).toEqual(Buffer.from(weights.subarray(1_000_000, 1_500_000)))
    }
    await using folder = await temporaryFolder()
    hub.cutAfter = [1_000_000]
    const choice = chooseFiles(repository, await listRepository(repository, { endpoint: hub.url }))
    await downloadFiles(repository, all(choice), folder.path, { endpoint: hub.url, retryMs: 1 })
    expect(Buffer.compare(await readFile(join(folder.path, 'a.gguf')), weights)).toBe(0)
  })

  it('is named with the cause where it cannot be reached', async () => {
    const port = new URL(hub.url).port
    await hub[Symbol.asyncDispose]()
    hub = await HubServer.start([])
    await expect(listRepository(repository, { endpoint: `http://127.0.0.1:${port}` })).rejects.toMatchObject({
      name: 'DownloadError',
      message: `the files of owner/model could not be listed: 127.0.0.1:${port} cannot be reached: nothing answers there (ECONNREFUSED 127.0.0.1:${port})`
    })
    await expect(listRepository(repository, { endpoint: 'http://hub.invalid' })).rejects.toThrow(
      /hub\.invalid cannot be reached: its name (is not known|cannot be looked up)/
    )
    await expect(listRepository(repository, { endpoint: 'nowhere' })).rejects.toThrow(
      /HF_ENDPOINT is no address/
    )
  })
})

describe('proxyFromEnvironment', () => {
  it('sends what is not excluded by the proxy, and nothing once it is disposed of', async () => {
    const seen: string[] = []
    const proxy = createServer((request, response) => {
      seen.push(request.url!)
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end('[]')
    })
    proxy.on('connect', (request, socket) => {
      seen.push(request.url!)
      socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    })
    await once(proxy.listen(0, '127.0.0.1'), 'listening')
    const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    await using direct = await HubServer.start([{ path: 'a.gguf', bytes: weights, lfs: true }])
    const env = { http_proxy: address, HTTPS_PROXY: address, NO_PROXY: 'excluded.invalid' }
    const list = (endpoint: string) =>
      listRepository(repository, { endpoint, retryMs: 1 }).then(
        files => files.length,
        () => 'failed'
      )
    {
      using _ = proxyFromEnvironment(env)
      await list('http://hub.invalid')
      await list('https://hub.invalid')
      expect(await list('http://excluded.invalid')).toBe('failed')
      expect(await list(direct.url)).toBe(1)
      const asked = seen.map(target => target.replace(/^http:\/\//, '').split(/[:/]/)[0])
      expect(new Set(asked)).toEqual(new Set(['hub.invalid']))
      expect(seen).toContain('hub.invalid:443')
    }
    seen.length = 0
    await list('http://hub.invalid')
    expect(seen).toEqual([])
    proxy.closeAllConnections()
    proxy.close()
  })

  it('changes nothing without a proxy, and refuses what is none', () => {
    using _ = proxyFromEnvironment({})
    expect(() => proxyFromEnvironment({ HTTPS_PROXY: 'http://[' })).toThrow(/is set to what is no address/)
  })
})

describe('parseRepository', () => {
  it('takes owner, name and revision', () => {
    expect(parseRepository('a/b')).toEqual({ name: 'a/b', revision: 'main' })
    expect(parseRepository('a/b@refs/pr/1')).toEqual({ name: 'a/b', revision: 'refs/pr/1' })
  })
  it.each(['a', 'a/b/c', '../b', 'a/..', 'a/b@', 'a/b@../x', 'a/b@x y', ''])('refuses %j', text => {
    expect(() => parseRepository(text)).toThrow(expect.objectContaining({ name: 'RepositoryError' }))
  })
})

describe('chooseFiles', () => {
  const file = (path: string) => ({ type: 'file', path, size: 1, oid: '0'.repeat(40) })
  const choose = (paths: string[], gguf?: string, indexed?: string[]) =>
    all(chooseFiles(repository, paths.map(file), gguf), indexed).map(f => f.path)
  const both = ['config.json', 'tokenizer.json']

  it('takes one of several forms of the same weights', () => {
    const index = 'model.safetensors.index.json'
    const parts = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    const whole = [...both, 'model.safetensors']
    expect(choose([...whole, 'consolidated.safetensors', 'README.md'])).toEqual(whole)
    expect(choose([...whole, index, ...parts])).toEqual(whole)
    expect(choose([...both, ...parts])).toEqual([...both, ...parts])
    const odd = ['model.safetensors-00001-of-00001.safetensors']
    expect(choose([...both, index, ...odd, ...parts], undefined, odd)).toEqual([...both, index, ...odd])
    expect(choose(['only.gguf', 'README.md'])).toEqual(['only.gguf'])
    expect(choose(['a.gguf', 'b.gguf'], 'b.gguf')).toEqual(['b.gguf'])
  })

  it('takes all parts of a split GGUF model, in whatever folder', () => {
    const parts = ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf']
    expect(choose([...parts, 'README.md'])).toEqual(parts)
    expect(choose(['a.gguf', ...parts], parts[1])).toEqual(parts)
    const inside = parts.map(part => `Q4_K_M/${part}`)
    expect(choose(['a.gguf', ...inside], inside[0])).toEqual(inside)
    expect(() => choose(['a.gguf', ...parts])).toThrow(/It has a.gguf, m-00001-of-00002.gguf\./)
    expect(() => choose([parts[0]!])).toThrow(/lacks m-00002-of-00002.gguf/)
    for (const path of ['../x.gguf', '/x.gguf', 'a/../x.gguf', 'a//b/..x.gguf']) {
      expect(() => choose(['a.gguf'], path), path).toThrow(/is no folder|has no file/)
    }
  })

  it('refuses what leaves a choice, or nothing', () => {
    expect(() => choose(['a.gguf', 'b.gguf'])).toThrow(/choose one with --file. It has a.gguf, b.gguf/)
    expect(() => choose(['a.gguf'], 'c.gguf')).toThrow(/has no file c.gguf/)
    expect(() => choose(['pytorch_model.bin'])).toThrow(/neither safetensors nor GGUF/)
    expect(() => choose([...both, 'lora.safetensors'])).toThrow(
      /no model.safetensors. It has lora.safetensors/
    )
    expect(() => choose([...both, 'model-00001-of-00002.safetensors'])).toThrow(/no model.safetensors/)
    expect(() => choose(['config.json', 'model.safetensors', 'tekken.json'])).toThrow(/has no tokenizer.json/)
    expect(() => choose(['tokenizer.json', 'model.safetensors'])).toThrow(/has no config.json/)
    expect(() =>
      choose([...both, 'model.safetensors.index.json', 'a.safetensors'], undefined, ['b.safetensors'])
    ).toThrow(/lacks b.safetensors/)
  })
})

it("a repository's tokenizer may be a file of ranks, which is taken with the rest", () => {
  const oid = 'a'.repeat(40)
  const files = [
    'config.json',
    'tiktoken.model',
    'tokenizer_config.json',
    'tokenization_kimi.py',
    'model.safetensors'
  ]
  const listed = files.map(path => ({ type: 'file', path, size: 9, oid }))
  const chosen = all(chooseFiles(repository, listed)).map(({ path }) => path)
  expect(chosen.sort()).toEqual(files.filter(path => !path.endsWith('.py')).sort())
  const without = listed.filter(({ path }) => path !== 'tiktoken.model')
  expect(() => chooseFiles(repository, without)).toThrow(/has no tokenizer\.json/)
})
