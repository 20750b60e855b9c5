import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { listRepository } from '../../../node/hub/client.ts'
import { downloadFiles } from '../../../node/hub/download.ts'
import { chooseFiles, parseRepository } from '../../../node/hub/repository.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { HubServer } from '../../fixtures/hub-server.ts'
import { prng } from '../../fixtures/prng.ts'

const random = prng(1)
const weights = Uint8Array.from({ length: 3_000_000 }, () => random() * 256)
const config = new TextEncoder().encode('{"model_type":"llama"}')
const repository = { name: 'owner/model', revision: 'main' }

describe('downloadFiles', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let hub: HubServer
  beforeEach(async () => {
    folder = await temporaryFolder()
    hub = await HubServer.start([
      { path: 'config.json', bytes: config },
      { path: 'model.safetensors', bytes: weights, lfs: true },
      { path: 'pytorch_model.bin', bytes: config, lfs: true },
      { path: '../evil.json', bytes: config }
    ])
  })
  afterEach(async () => {
    await hub[Symbol.asyncDispose]()
    await folder[Symbol.asyncDispose]()
  })
  const bodies = () => hub.requests.filter(r => r.includes('model.safetensors') && !r.endsWith('bytes=0-0'))

  async function pull(
    options: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void } = {}
  ) {
    const from = { endpoint: hub.url, retryMs: 1, ...options }
    const files = chooseFiles(repository, await listRepository(repository, from))
    await downloadFiles(repository, files, join(folder.path, 'to'), from)
  }

  it('brings the files that an import needs, and no others, with their bytes', async () => {
    const progress: number[] = []
    await pull({ onProgress: done => progress.push(done) })
    expect((await readdir(join(folder.path, 'to'))).sort()).toEqual(['config.json', 'model.safetensors'])
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
    const files = chooseFiles(repository, await listRepository(repository, { endpoint: hub.url }))
    hub.files[1]!.bytes = weights.map(b => b ^ 1)
    const to = join(folder.path, 'to')
    await expect(downloadFiles(repository, files, to, { endpoint: hub.url })).rejects.toThrow(
      /its hash differs/
    )
    expect(await readdir(to)).toEqual(['config.json'])
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
    expect(await listRepository(repository, { endpoint: hub.url, token: 'hf_secret' })).toHaveLength(4)
    await expect(
      listRepository({ name: 'owner/none', revision: 'main' }, { endpoint: hub.url, token: 'hf_secret' })
    ).rejects.toThrow(/the hub has no owner\/none@main/)
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
  const choose = (paths: string[], gguf?: string) =>
    chooseFiles(repository, paths.map(file), gguf).map(f => f.path)

  it('takes one of several forms of the same weights', () => {
    const parts = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    expect(choose(['config.json', 'model.safetensors', 'consolidated.safetensors', 'README.md'])).toEqual([
      'config.json',
      'model.safetensors'
    ])
    expect(choose(['model.safetensors.index.json', 'model.safetensors', ...parts])).toEqual([
      'model.safetensors.index.json',
      ...parts
    ])
    expect(choose(['only.gguf', 'README.md'])).toEqual(['only.gguf'])
    expect(choose(['a.gguf', 'b.gguf'], 'b.gguf')).toEqual(['b.gguf'])
  })

  it('refuses what leaves a choice, or nothing', () => {
    expect(() => choose(['a.gguf', 'b.gguf'])).toThrow(/choose one with --file. It has a.gguf, b.gguf/)
    expect(() => choose(['a.gguf'], 'c.gguf')).toThrow(/has no file c.gguf/)
    expect(() => choose(['pytorch_model.bin'])).toThrow(/neither safetensors nor GGUF/)
    expect(() => choose(['lora.safetensors'])).toThrow(/no model.safetensors/)
  })
})
