import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { identityOf } from '../../models/formats/files.ts'
import { importModel } from '../../models/import/import-model.ts'
import { serializeManifest } from '../../models/manifest.ts'
import { Catalog } from '../../models/store/catalog.ts'
import { ModelStore } from '../../models/store/store.ts'
import { writeCheckpoint } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let checkpoint: string
let store: ModelStore

beforeEach(async () => {
  folder = await temporaryFolder()
  checkpoint = join(folder.path, 'checkpoint')
  await writeCheckpoint(checkpoint)
  store = await ModelStore.open(join(folder.path, 'store'))
})
afterEach(() => folder[Symbol.asyncDispose]())

const blobs = (of = store) => readdir(of.blobsDir)

it('lists, resolves by name and id, and says which layers are held', async () => {
  const { id, manifest } = await importModel(checkpoint, store, { name: 'tiny' })
  expect((await store.list()).map(m => m.name)).toEqual(['tiny'])
  expect((await store.resolve('tiny')).id).toBe(id)
  expect((await store.resolve(id)).name).toBe('tiny')
  expect(await store.heldLayers(manifest)).toEqual([[0, 4]])
  await expect(store.resolve('other')).rejects.toThrow(/no model "other".*holds tiny/)
})

it('names the layer and the file of what is missing, cut short or altered', async () => {
  const model = await importModel(checkpoint, store, { name: 'tiny' })
  const path = store.blobPath(model.manifest.layers[2]!.sha256)
  const bytes = await readFile(path)
  expect(await store.intact(model.manifest.layers[2]!)).toBe(true)

  bytes[100]! ^= 1
  await writeFile(path, bytes)
  expect(await store.heldLayers(model.manifest)).toEqual([[0, 4]])
  expect(await store.intact(model.manifest.layers[2]!)).toBe(false)
  await expect(store.verify(model)).rejects.toMatchObject({ name: 'BlobError', problem: 'corrupt' })

  await truncate(path, 100)
  await expect(store.verify(model)).rejects.toThrow(`model tiny, layer 2: ${path}`)
  expect(await store.heldLayers(model.manifest)).toEqual([
    [0, 2],
    [3, 4]
  ])
  await expect(store.verify(model, { range: [0, 2] })).resolves.toBeUndefined()

  await importModel(checkpoint, store, { name: 'tiny' })
  await expect(store.verify(model)).resolves.toBeUndefined()
})

it('reads a file again for no other process, but where it was written, for long not read, or where the note is rubbish', async () => {
  const { manifest } = await importModel(checkpoint, store, { name: 'tiny' })
  const [layer, other] = manifest.layers
  const path = store.blobPath(layer!.sha256)
  const note = join(store.dir, 'checked.json')
  expect(await store.intact(layer!)).toBe(true)
  const checked = JSON.parse(await readFile(note, 'utf8'))
  expect(Object.keys(checked)).toEqual([layer!.sha256])
  const [identity, atMs] = checked[layer!.sha256]

  // A disk that spoils a file changes no time: so only reading it tells.
  const { atime, mtime } = await stat(path)
  const bytes = await readFile(path)
  bytes[100]! ^= 1
  await writeFile(path, bytes)
  await utimes(path, atime, mtime)
  const spoilt = await identityOf(path)
  const said = (entry: unknown) => writeFile(note, JSON.stringify({ [layer!.sha256]: entry }))
  const again = async () => (await ModelStore.open(store.dir)).intact(layer!)

  await said([spoilt, atMs])
  expect(await again()).toBe(true)
  await said([spoilt, atMs - 8 * 24 * 3600 * 1000])
  expect(await again()).toBe(false)
  await said([spoilt, atMs + 3600 * 1000])
  expect(await again()).toBe(false)
  await said([`${identity}0`, atMs])
  expect(await again()).toBe(false)
  await writeFile(note, '{"not": "a note"}')
  expect(await again()).toBe(false)

  expect(await ModelStore.at(store.dir).intact(other!)).toBe(true)
  expect(await readFile(note, 'utf8')).toBe('{"not": "a note"}')
})

it('takes a blob from a peer only when size and hash are right', async () => {
  const { manifest } = await importModel(checkpoint, store, { name: 'tiny' })
  const peer = await ModelStore.open(join(folder.path, 'peer'))
  await peer.cache(serializeManifest(manifest), { called: 'tiny', claims: {} })
  expect(await peer.heldLayers(manifest)).toEqual([])
  const ref = manifest.layers[1]!
  const bytes = await readFile(store.blobPath(ref.sha256))
  const altered = Uint8Array.from(bytes)
  altered[0]! ^= 1

  const stream = async function* (...chunks: Uint8Array[]) {
    yield* chunks
  }
  await expect(peer.putBlob(ref, stream(altered))).rejects.toMatchObject({ problem: 'corrupt' })
  await expect(peer.putBlob(ref, stream(bytes, bytes))).rejects.toMatchObject({ problem: 'size' })
  await expect(peer.putBlob(ref, stream(bytes.subarray(1)))).rejects.toMatchObject({ problem: 'size' })
  await expect(peer.putBlob(ref, stream(bytes), { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i)
  expect(await peer.heldLayers(manifest)).toEqual([])
  expect(await readdir(join(peer.dir, 'tmp'))).toEqual([])

  await peer.putBlob(ref, stream(bytes.subarray(0, 10), bytes.subarray(10)))
  expect(await peer.heldLayers(manifest)).toEqual([[1, 2]])
  // Its hash was taken as it came: it is not read again for that.
  const checked = JSON.parse(await readFile(join(peer.dir, 'checked.json'), 'utf8'))
  expect(checked).toMatchObject({
    [ref.sha256]: [await identityOf(peer.blobPath(ref.sha256)), expect.anything()]
  })
})

it('removes a model with what no other model uses', async () => {
  await importModel(checkpoint, store, { name: 'a' })
  const before = await blobs()
  await importModel(checkpoint, store, { name: 'b' })
  await importModel(checkpoint, store, { name: 'rounded', quantize: 'q8' })
  expect((await blobs()).length).toBeGreaterThan(before.length)

  expect(await store.remove('a')).toBe(0)
  expect(await store.remove('rounded')).toBeGreaterThan(0)
  expect((await blobs()).sort()).toEqual(before.sort())
  await store.verify(await store.resolve('b'))
  await store.remove('b')
  expect(await blobs()).toEqual([])
  await expect(store.remove('b')).rejects.toMatchObject({ name: 'ModelNotFoundError' })
})

it('keeps what is cached apart: under no name, beside the own models, gone when it is told to', async () => {
  const own = await importModel(checkpoint, store, { name: 'own' })
  const other = await ModelStore.open(join(folder.path, 'other'))
  const brought = await importModel(checkpoint, other, { name: 'own', quantize: 'q8' })
  const bytes = serializeManifest(brought.manifest)
  expect(await store.cache(bytes, { called: 'own', claims: { a: 1 } })).toBe(brought.id)
  for (const layer of brought.manifest.layers) {
    await store.putBlob(layer, createReadStream(other.blobPath(layer.sha256)))
  }
  expect((await store.list()).map(({ id }) => id)).toEqual([own.id])
  expect((await store.resolve('own')).id).toBe(own.id)
  expect(await store.resolve(brought.id.slice(0, 12))).toMatchObject({ id: brought.id, name: brought.id })
  expect((await store.held()).map(({ name }) => name)).toEqual([brought.id, 'own'])

  await store.claim(brought.id, { a: 1, b: 2 })
  expect(await store.cached()).toMatchObject([{ id: brought.id, called: 'own', claims: { a: 1, b: 2 } }])
  await store.remove('own')
  expect(await store.heldLayers(brought.manifest)).toEqual([[0, 4]])
  await expect(store.resolve('own')).rejects.toMatchObject({ name: 'ModelNotFoundError' })
  expect(await store.remove(brought.id.slice(0, 8))).toBeGreaterThan(0)
  expect(await store.cached()).toEqual([])
  expect(await blobs()).toEqual([])
})

it('of a model that is removed nothing stays as a cached one', async () => {
  const { manifest, id } = await importModel(checkpoint, store, { name: 'tiny' })
  await store.cache(serializeManifest(manifest), { called: 'tiny', claims: { a: 1 } })
  expect((await store.held()).map(({ name }) => name)).toEqual(['tiny'])
  await store.remove('tiny')
  expect([await store.cached(), await store.held(), await blobs()]).toEqual([[], [], []])
  await expect(store.remove(id)).rejects.toThrow()
})

it('takes the names from models that peers had brought before there was a cache, once', async () => {
  const whole = await importModel(checkpoint, store, { name: 'whole' })
  const partial = await importModel(checkpoint, store, { name: 'partial', quantize: 'q8' })
  await rm(store.blobPath(partial.manifest.layers[1]!.sha256))
  await rm(join(store.dir, 'cache'), { recursive: true })
  const again = await ModelStore.open(store.dir)
  expect((await again.list()).map(({ id }) => id)).toEqual([whole.id])
  expect(await again.cached()).toMatchObject([{ id: partial.id, called: 'partial', claims: {} }])
  expect(await again.heldLayers(partial.manifest)).toEqual([
    [0, 1],
    [2, 4]
  ])
  // One of the user's own that is damaged later keeps its name.
  await rm(again.blobPath(whole.manifest.layers[1]!.sha256))
  expect((await (await ModelStore.open(store.dir)).list()).map(({ name }) => name)).toEqual(['whole'])
})

it('adopts the models of another store, and leaves names alone that exist', async () => {
  const { manifest, id } = await importModel(checkpoint, store, { name: 'tiny' })
  const other = await ModelStore.open(join(folder.path, 'other'))
  expect((await other.adopt(store.dir)).map(m => m.name)).toEqual(['tiny'])
  expect(await other.adopt(store.dir)).toEqual([])
  expect((await other.resolve('tiny')).id).toBe(id)
  await other.verify(await other.resolve('tiny'))
  expect(await other.heldLayers(manifest)).toEqual([[0, 4]])
})

it('does not adopt again what was removed since, unless it is asked to', async () => {
  await importModel(checkpoint, store, { name: 'tiny' })
  const other = await ModelStore.open(join(folder.path, 'other'))
  await importModel(checkpoint, other, { name: 'mine' })
  expect((await other.adopt(store.dir)).map(({ name }) => name)).toEqual(['tiny'])
  await other.remove('tiny')
  expect(await (await ModelStore.open(other.dir)).adopt(store.dir)).toEqual([])
  expect((await other.list()).map(({ name }) => name)).toEqual(['mine'])
  expect((await other.adopt(store.dir, { again: true })).map(({ name }) => name)).toEqual(['tiny'])
})

it.each(['../x', '/etc/x', '', '.hidden', 'a/b', 'a\\b', 'x'.repeat(64), 'a\0b'])(
  'refuses the name %j',
  async name => {
    await expect(importModel(checkpoint, store, { name })).rejects.toMatchObject({ name: 'ModelNameError' })
    expect(await blobs()).toEqual([])
  }
)

it('reports a damaged entry without hiding the others', async () => {
  await importModel(checkpoint, store, { name: 'good' })
  const { id } = await importModel(checkpoint, store, { name: 'bad', quantize: 'q4' })
  await writeFile(store.blobPath(id), '{}')
  const again = await ModelStore.open(store.dir)
  const { models, broken } = await again.scan()
  expect(models.map(m => m.name)).toEqual(['good'])
  expect(broken).toMatchObject([{ name: 'bad', error: { name: 'BlobError' } }])
})

it('leaves nothing of an import that was cancelled or killed', async () => {
  const cancel = new AbortController()
  const cancelled = importModel(checkpoint, store, {
    name: 'tiny',
    signal: cancel.signal,
    onProgress: done => done === 2 && cancel.abort()
  })
  await expect(cancelled).rejects.toMatchObject({ name: 'AbortError' })
  expect(await readdir(join(store.dir, 'tmp'))).toEqual([])

  const script = `
    import { ModelStore } from ${JSON.stringify(new URL('../../models/store/store.ts', import.meta.url).href)}
    import { importModel } from ${JSON.stringify(new URL('../../models/import/import-model.ts', import.meta.url).href)}
    const store = await ModelStore.open(${JSON.stringify(store.dir)})
    await importModel(${JSON.stringify(checkpoint)}, store, { name: 'tiny', onProgress: d => d === 2 && process.kill(process.pid, 'SIGKILL') })`
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], { stdio: 'ignore' })
  const [, signal] = await once(child, 'exit')
  expect(signal).toBe('SIGKILL')
  expect(await readdir(join(store.dir, 'tmp'))).not.toEqual([])

  const reopened = await ModelStore.open(store.dir)
  expect(await reopened.list()).toEqual([])
  expect(await blobs(reopened)).toEqual([])
  expect(await readdir(join(store.dir, 'tmp'))).toEqual([])
})

it('keeps what a live import of another process has not finished', async () => {
  const draft = await store.draft()
  await draft.addBytes(new Uint8Array(10))
  await ModelStore.open(store.dir)
  expect(await readdir(join(store.dir, 'tmp'))).toHaveLength(2)
  await draft.close()
  expect(await readdir(join(store.dir, 'tmp'))).toEqual([])
})

it('is safe for imports and removals at the same time', async () => {
  const stores = await Promise.all([0, 1, 2, 3].map(() => ModelStore.open(store.dir)))
  await Promise.all(
    stores.map(async (own, i) => {
      for (let round = 0; round < 4; round++) {
        const model = await importModel(checkpoint, own, { name: `m${i}` })
        await own.verify(model)
        if (round < 3) await own.remove(`m${i}`)
      }
    })
  )
  const models = await store.list()
  expect(models.map(m => m.name)).toEqual(['m0', 'm1', 'm2', 'm3'])
  for (const model of models) expect(await store.heldLayers(model.manifest)).toEqual([[0, 4]])
})

/** A small disk of one's own, where the system lets anybody make one. */
const canMount = spawnSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']).status === 0

it.skipIf(!canMount)('leaves the store as it was when the disk fills up during an import', async () => {
  const disk = join(folder.path, 'disk')
  await mkdir(disk)
  const script = `
    import { writeFileSync, readdirSync } from 'node:fs'
    import { ModelStore } from ${JSON.stringify(new URL('../../models/store/store.ts', import.meta.url).href)}
    import { importModel } from ${JSON.stringify(new URL('../../models/import/import-model.ts', import.meta.url).href)}
    const store = await ModelStore.open(${JSON.stringify(join(disk, 'store'))})
    await importModel(${JSON.stringify(checkpoint)}, store, { name: 'before', quantize: 'q8' })
    const files = () => readdirSync(store.dir, { recursive: true }).sort()
    const before = files()
    const fill = done => { try { if (done === 1) writeFileSync(${JSON.stringify(join(disk, 'fill'))}, new Uint8Array(2 ** 20)) } catch {} }
    const error = await importModel(${JSON.stringify(checkpoint)}, store, { name: 'tiny', onProgress: fill }).catch(e => e)
    await store.verify(await store.resolve('before'))
    console.log(JSON.stringify({ name: error.name, message: error.message, same: String(files()) === String(before) }))`
  const mount = `mount -t tmpfs -o size=512k tmpfs '${disk}' && exec "$0" --input-type=module-typescript -e "$1"`
  const output = execFileSync('unshare', ['-rm', 'sh', '-c', mount, process.execPath, script], {
    encoding: 'utf8'
  })
  expect(JSON.parse(output)).toEqual({
    name: 'StoreError',
    message: expect.stringMatching(/^cannot write .*: the disk is full; free some space and try again$/),
    same: true
  })
})

it('says so when the disk cannot be written', async () => {
  await mkdir(join(folder.path, 'file'), { recursive: true })
  await writeFile(join(folder.path, 'file', 'store'), '')
  await expect(ModelStore.open(join(folder.path, 'file', 'store'))).rejects.toMatchObject({
    name: 'StoreError'
  })
})

it('does not take a model for broken when no more files can be opened', async () => {
  await mkdir(join(folder.path, 'names'))
  await writeFile(join(folder.path, 'names', 'tiny.json'), `{"id":"${'a'.repeat(64)}"}`)
  const code = (name: string) => () => {
    throw Object.assign(new Error(name), { code: name })
  }
  await expect(new Catalog(join(folder.path, 'names'), code('EMFILE')).scan()).rejects.toThrow('EMFILE')
  const { broken } = await new Catalog(join(folder.path, 'names'), code('EIO')).scan()
  expect(broken.map(({ name }) => name)).toEqual(['tiny'])
})
