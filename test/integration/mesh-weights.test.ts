import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import type { BlobRef } from '../../models/manifest.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { FetchState } from '../../node/api.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { MeshPeers } from '../../node/mesh/mesh-peers.ts'
import { Fetches } from '../../node/weights/fetches.ts'
import { blobsOf, Weights } from '../../node/weights/weights.ts'
import { MAX_WEIGHT_SERVES_PER_PEER } from '../../protocols/weights/constants.ts'
import type { WeightsHandlers } from '../../protocols/weights/index.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const BLOB_BYTES = 600_000
const meshes = new Meshes()
const folders: Awaited<ReturnType<typeof temporaryFolder>>[] = []
afterEach(async () => {
  await meshes.stop()
  await Promise.all(folders.splice(0).map(folder => folder[Symbol.asyncDispose]()))
})

const blobs = Array.from({ length: 4 }, () => randomBytes(BLOB_BYTES))
const refs: BlobRef[] = blobs.map(bytes => ({
  sha256: createHash('sha256').update(bytes).digest('hex'),
  bytes: bytes.byteLength
}))
const total = refs.length * BLOB_BYTES

async function store(held: readonly Uint8Array[] = []): Promise<ModelStore> {
  const folder = await temporaryFolder()
  folders.push(folder)
  const opened = await ModelStore.open(join(folder.path, 'store'))
  for (const bytes of held) {
    await opened.putBlob(refs[blobs.indexOf(bytes as (typeof blobs)[0])]!, pieces(bytes))
  }
  return opened
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

/** What a node says of its fetches. */
const said: string[] = []
const fetches = new Fetches({
  now: () => performance.now(),
  onNotice: message => said.push(message),
  nameOf: () => 'llama'
})

/** A node that fetches into `into` from holders whose weights are served by `handlers`. */
async function fetching(into: ModelStore, handlers: WeightsHandlers[]) {
  const names = ['a', ...handlers.map((_, i) => `holder-${i}`)]
  const [a, ...holders] = (await meshes.connected(names, [
    {},
    ...handlers.map(weights => ({ weights }))
  ])) as [Mesh, ...Mesh[]]
  const cache = { keep: async () => {}, claim: async () => {}, makeRoom: async () => {} }
  const weights = new Weights({ store: into, peers: new MeshPeers(a), cache, fetches })
  const fetch = (progress: number[] = []) =>
    weights.obtain(
      refs,
      holders.map(({ peerId }) => peerId),
      {
        modelId: 'm'.repeat(64),
        signal: new AbortController().signal,
        onProgress: done => progress.push(done)
      }
    )
  return { a, holders, fetch }
}

async function expectAllIntact(of: ModelStore): Promise<void> {
  for (const ref of refs) expect(await of.intact(ref)).toBe(true)
}

/** Breaks the connection off, once, when so much of a blob was sent. */
function breaking(weights: WeightsHandlers, afterBytes: number, act: () => void): WeightsHandlers {
  let broken = false
  return {
    async open(sha256) {
      const blob = await weights.open(sha256)
      return (
        blob && {
          bytes: blob.bytes,
          async *stream(offset: number) {
            let sent = 0
            for await (const chunk of blob.stream(offset)) {
              sent += chunk.byteLength
              if (sent > afterBytes && !broken) {
                broken = true
                act()
                throw new Error('the device went away')
              }
              yield chunk
            }
          }
        }
      )
    }
  }
}

/** Has every blob, and other bytes in it. */
const liar: WeightsHandlers = {
  open: async () => ({ bytes: BLOB_BYTES, stream: offset => pieces(randomBytes(BLOB_BYTES - offset)) })
}

test('layers come from several holders at once, verified, with progress', async () => {
  const into = await store()
  const { holders, fetch } = await fetching(into, [blobsOf(await store(blobs)), blobsOf(await store(blobs))])
  const progress: number[] = []
  const shown: FetchState[] = []
  said.length = 0
  const watching = setInterval(() => shown.push(...fetches.state), 1)
  await fetch(progress)
  clearInterval(watching)
  await expectAllIntact(into)
  expect(shown.some(({ done }) => done > 0)).toBe(true)
  expect(shown[0]).toMatchObject({ modelId: 'm'.repeat(64), total })
  expect(fetches.state).toEqual([])
  expect(said).toEqual([
    'fetching 2.4 MB of llama from the mesh',
    expect.stringMatching(/^fetched 2\.4 MB of llama in .* s: \d+ Mbps$/)
  ])
  for (const { counters } of holders) expect(counters.weightBytesSent).toBe(total / 2)
  expect(progress.at(-1)).toBe(total)
  expect(progress.length).toBeGreaterThan(10)
})

test('a holder that goes away in the middle costs what was under way, not what had arrived', async () => {
  const into = await store()
  const leaving: { mesh?: Mesh } = {}
  const first = breaking(blobsOf(await store(blobs)), 200_000, () => void leaving.mesh!.stop())
  const { a, holders, fetch } = await fetching(into, [first, blobsOf(await store(blobs))])
  leaving.mesh = holders[0]!
  await fetch()
  await expectAllIntact(into)
  expect(a.counters.weightBytesReceived).toBeLessThan(total + 1000)
  expect(holders[1]!.counters.weightBytesSent).toBeGreaterThan(total / 2)
})

test('a liar costs time: what it sent is thrown away and comes from the honest one, and it is named', async () => {
  const into = await store()
  const { a, holders, fetch } = await fetching(into, [liar, blobsOf(await store(blobs))])
  const notices: string[] = []
  a.events.on('notice', text => notices.push(text))
  await fetch()
  await expectAllIntact(into)
  expect(notices).toEqual([expect.stringMatching(/^holder-0 sent a damaged weight file/)])
  // It was asked for one file, and for no other after that.
  expect(holders[0]!.counters.weightBytesSent).toBe(BLOB_BYTES)
})

test('of a liar alone nothing is kept', async () => {
  const into = await store()
  const { fetch, holders } = await fetching(into, [liar])
  await expect(fetch()).rejects.toMatchObject({
    name: 'BlobError',
    problem: 'corrupt',
    message: expect.stringContaining(holders[0]!.peerId)
  })
  expect(await readdir(into.blobsDir)).toEqual([])
  expect(await readdir(join(into.dir, 'tmp'))).toEqual([])
})

test('a holder that serves as many as it may is asked until it has a turn', async () => {
  const into = await store()
  const { promise: served, resolve: serveOn } = Promise.withResolvers<void>()
  const weights = blobsOf(await store(blobs))
  let asked = 0
  const slow: WeightsHandlers = {
    async open(sha256) {
      asked++
      await served
      return await weights.open(sha256)
    }
  }
  const { a, holders, fetch } = await fetching(into, [slow])
  const others = Array.from({ length: MAX_WEIGHT_SERVES_PER_PEER }, () =>
    a.fetchBlob(refs[0]!, [holders[0]!.peerId], async bytes => {
      for await (const _ of bytes) {
      }
    })
  )
  await until(() => asked === others.length)
  setTimeout(serveOn, 1500)
  await fetch()
  await Promise.all(others)
  await expectAllIntact(into)
})

test('the last copy of a layer was evicted: the error names the layer and who said so', async () => {
  const into = await store()
  const held = await store(blobs)
  const { holders, fetch } = await fetching(into, [blobsOf(held)])
  await rm(held.blobPath(refs[2]!.sha256))
  await expect(fetch()).rejects.toMatchObject({
    name: 'BlobUnavailableError',
    message: expect.stringMatching(
      new RegExp(`${refs[2]!.sha256.slice(0, 12)}.*nobody delivered it.*${holders[0]!.peerId}.*no blob`)
    )
  })
  expect(await into.has(refs[2]!)).toBe(false)
})

const mountProblem = tmpfsProblem()
test.skipIf(mountProblem !== null)(
  'a disk without room at the fetching node is said at once, before anybody is asked',
  async () => {
    const folder = await temporaryFolder()
    folders.push(folder)
    const disk = join(folder.path, 'disk')
    await mkdir(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${1.5 * BLOB_BYTES}`, 'tmpfs', disk])
    try {
      const into = await ModelStore.open(join(disk, 'store'))
      const { a, fetch } = await fetching(into, [blobsOf(await store(blobs)), blobsOf(await store(blobs))])
      await expect(fetch()).rejects.toThrow(/bytes are needed and .* the disk has/)
      expect(a.counters.weightBytesReceived).toBe(0)
      expect(await readdir(join(into.dir, 'tmp'))).toEqual([])
    } finally {
      execFileSync('umount', ['-l', disk])
    }
  }
)

function tmpfsProblem(): string | null {
  const where = '/mnt'
  try {
    execFileSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'tmpfs', where], { stdio: 'ignore' })
    return process.getuid?.() === 0 ? null : 'only root may mount'
  } catch {
    process.stderr.write('the full disk is skipped: this user may not mount a small one\n')
    return 'may not mount'
  }
}
