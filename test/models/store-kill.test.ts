import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { ModelStore } from '../../models/store/store.ts'
import { writeCheckpoint } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { prng } from '../fixtures/prng.ts'

/** The short form; EDGESHARD_KILL_ROUNDS says how many the long one has. */
const ROUNDS = Number(process.env.EDGESHARD_KILL_ROUNDS ?? 2)
const SEED = Number(process.env.EDGESHARD_KILL_SEED ?? 1)

const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)

/** Imports, removes and fetches without end; says when each is done. */
const worker = (dir: string, checkpoint: string) => `
  import { readFile } from 'node:fs/promises'
  import { ModelStore } from ${url('../../models/store/store.ts')}
  import { importModel } from ${url('../../models/import/import-model.ts')}
  const store = await ModelStore.open(${JSON.stringify(dir)})
  for (let i = 0; ; i++) {
    const quantize = i % 2 ? 'none' : 'q8'
    await importModel(${JSON.stringify(checkpoint)}, store, { name: 'm' + (i % 3), quantize })
    process.stdout.write('imported\\n')
    if (i % 3 === 2) await store.remove('m' + (i % 2))
    const [model] = await store.list()
    const ref = model.manifest.layers[i % model.manifest.layers.length]
    const bytes = await readFile(store.blobPath(ref.sha256))
    await store.putBlob(ref, (async function* () {
      for (let at = 0; at < bytes.length; at += 1024) yield bytes.subarray(at, at + 1024)
    })())
  }`

/** Waits until the child has imported so many models, and a little longer. */
async function busy(child: ChildProcess, imports: number, besidesMs: number): Promise<void> {
  let done = 0
  for await (const chunk of child.stdout!) {
    done += chunk.toString().split('\n').length - 1
    if (done >= imports) break
  }
  await delay(besidesMs)
}

it(`is whole after ${ROUNDS} kills at any moment of what changes it, seed ${SEED}`, async () => {
  await using folder = await temporaryFolder()
  const checkpoint = join(folder.path, 'checkpoint')
  const dir = join(folder.path, 'store')
  await writeCheckpoint(checkpoint)
  const random = prng(SEED)
  let verified = 0
  for (let round = 0; round < ROUNDS; round++) {
    const args = ['--input-type=module-typescript', '-e', worker(dir, checkpoint)]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const exit = once(child, 'exit')
    await busy(child, 1 + (round % 3), 60 * random())
    child.kill('SIGKILL')
    expect((await exit)[1]).toBe('SIGKILL')
    const store = await ModelStore.open(dir)
    const { models, broken } = await store.scan()
    expect(broken).toEqual([])
    for (const model of models) {
      await store.verify(model, { range: [0, model.manifest.layers.length] })
      for (const file of Object.keys(model.manifest.files)) await store.readSideFile(model, file)
      verified++
    }
    expect(await readdir(join(dir, 'tmp'))).toEqual([])
  }
  expect(verified).toBeGreaterThan(0)
})
