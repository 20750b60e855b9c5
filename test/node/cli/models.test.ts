import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { usedFor } from '../../../node/cli/commands/rm.ts'
import { startHttpServer } from '../../../node/http/index.ts'
import { writeCheckpoint } from '../../fixtures/checkpoint.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { encodeGguf, tinyGguf, writeGguf } from '../../fixtures/gguf.ts'
import { HubServer } from '../../fixtures/hub-server.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { fakeNode, RESULT } from '../http/fake-node.ts'

const MAIN = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let home: string
beforeEach(async () => {
  folder = await temporaryFolder()
  home = join(folder.path, 'home')
})
afterEach(() => folder[Symbol.asyncDispose]())

function edgeshard(args: string[], env: Record<string, string> = {}) {
  return new Promise<{ status: number; stdout: string; stderr: string }>(resolve => {
    const options = { env: { ...process.env, EDGESHARD_HOME: home, ...env } }
    execFile(process.execPath, [MAIN, ...args], options, (error, stdout, stderr) =>
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr })
    )
  })
}

it('imports, lists and removes a model', async () => {
  const checkpoint = join(folder.path, 'tiny-model')
  await writeCheckpoint(checkpoint)
  const imported = await edgeshard(['import', checkpoint, '--quantize', 'q8', '--json'])
  expect(imported.status).toBe(0)
  // What the rounding that was asked for costs, and nothing else.
  expect(imported.stderr).toMatch(/^edgeshard: note: F32: rounded to 8 bits [^\n]+\n$/)
  expect(JSON.parse(imported.stdout)).toMatchObject({ name: 'tiny-model', precision: 'q8', layers: 4 })

  const again = await edgeshard(['import', checkpoint, '--quantize', 'q8'])
  expect(again.stdout).toContain('as it was before')
  const other = await edgeshard(['import', checkpoint, '--quantize', 'q4', '--json'])
  expect(JSON.parse(other.stdout).replaced).toBe(JSON.parse(imported.stdout).id)

  const listed = await edgeshard(['models', '--verify', '--json'])
  const [model] = JSON.parse(listed.stdout).models
  expect(model).toMatchObject({ name: 'tiny-model', architecture: 'llama', held: [[0, 4]], decoderLayers: 2 })
  expect((await edgeshard(['models'])).stdout).toContain('tiny-model')

  const removed = await edgeshard(['rm', 'tiny-model', '--json'])
  expect(JSON.parse(removed.stdout).freedBytes).toBeGreaterThan(model.weightBytes)
  expect(JSON.parse((await edgeshard(['models', '--json'])).stdout)).toEqual({
    models: [],
    cached: [],
    diskBytes: 0
  })
})

it('lists without making anything, also what is read-only, and says of what it cannot read that', async () => {
  expect(await edgeshard(['models'])).toEqual({
    status: 0,
    stdout: 'No models yet. `edgeshard import PATH` adds one.\n',
    stderr: ''
  })
  const other = join(folder.path, 'other')
  expect((await edgeshard(['models', '--home', other])).stdout).toContain(`import PATH --home ${other}\``)
  expect(await readdir(folder.path)).toEqual([])
  await writeFile(join(folder.path, 'file'), '')
  const refused = await edgeshard(['models', '--home', join(folder.path, 'file')])
  expect(refused).toMatchObject({
    status: 2,
    stdout: '',
    stderr: expect.stringMatching(/^edgeshard: cannot read /)
  })

  const checkpoint = join(folder.path, 'tiny-model')
  await writeCheckpoint(checkpoint)
  await edgeshard(['import', checkpoint])
  const before = await edgeshard(['models', '--json'])
  await rm(join(home, 'store', 'tmp'), { recursive: true })
  expect(await edgeshard(['models', '--json'])).toEqual(before)
  expect(await readdir(join(home, 'store'))).not.toContain('tmp')
})

it('does not remove a model that the node works with, unless told to', async () => {
  const checkpoint = join(folder.path, 'tiny-model')
  await writeCheckpoint(checkpoint)
  const { id } = JSON.parse((await edgeshard(['import', checkpoint, '--json'])).stdout)
  const node = fakeNode()
  const { plan, predicted } = RESULT
  const placed = {
    modelId: id,
    objective: 'latency',
    plan,
    predicted,
    slots: 1,
    microBatches: 1,
    sessions: 1
  } as const
  const idle = node.mesh()
  node.mesh = () => ({ ...idle, deployments: [placed] })
  await using server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  await using _ = await runningHome(home, { api: server.url })
  const why = 'in use: the node that runs here has it loaded, 1 answer is under way; --yes removes it'
  for (const args of [[], ['--json']]) {
    const refused = await edgeshard(['rm', 'tiny-model', ...args])
    expect(refused).toMatchObject({ status: 1, stdout: '' })
    expect(refused.stderr).toContain(`edgeshard: tiny-model is ${why}`)
  }
  expect((await edgeshard(['rm', 'tiny-model', '--yes', '--json'])).stdout).toContain('"name":"tiny-model"')
  expect(JSON.parse((await edgeshard(['models', '--json'])).stdout).models).toEqual([])
})

it('what a node has a model for is said', () => {
  const mesh = fakeNode().mesh()
  const lease = {
    id: 'l',
    modelId: 'm',
    layers: [0, 4],
    bytes: 1,
    sessions: 2,
    expiresInMs: 1,
    source: 'other'
  } as const
  const leases = [{ ...lease, layers: [0, 4] as [number, number] }]
  expect(usedFor('m', undefined)).toBeUndefined()
  expect(usedFor('m', mesh)).toBeUndefined()
  expect(usedFor('m', { ...mesh, leases })).toBe(
    'layers of it are loaded for another device, 2 answers are under way'
  )
  expect(usedFor('n', { ...mesh, leases })).toBeUndefined()
  expect(usedFor('m', { ...mesh, fetches: [{ modelId: 'm', done: 1, total: 2, mbps: 1 }] })).toBe(
    'weights of it are on their way'
  )
})

it('ends with status 2 and one line for what is wrong with the input', async () => {
  for (const [args, message] of [
    [['import', join(folder.path, 'none')], /none: cannot be read \(ENOENT\)/],
    [['import', folder.path, '--name', '../x'], /cannot be a model's name/],
    [['import', folder.path], /config\.json: is missing/],
    [['rm', 'none'], /no model "none"/],
    [['pull', 'not-a-repository'], /is not a repository/]
  ] as const) {
    const { status, stdout, stderr } = await edgeshard([...args])
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  }
})

async function filesIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true })
  return entries.filter(entry => entry.isFile()).map(({ name }) => name)
}

it('pulls a model from a hub, and leaves no download behind', async () => {
  const checkpoint = join(folder.path, 'checkpoint')
  await writeCheckpoint(checkpoint, { files: 2 })
  // Its word on embeddings is in a folder of its own; without it the model would have another id.
  await mkdir(join(checkpoint, '1_Pooling'))
  const modules = [{ path: '1_Pooling', type: 'sentence_transformers.models.Pooling' }]
  await writeFile(join(checkpoint, 'modules.json'), JSON.stringify(modules))
  await writeFile(join(checkpoint, '1_Pooling', 'config.json'), '{"pooling_mode_lasttoken":true}')
  const files = await Promise.all(
    [...(await filesIn(checkpoint)), '1_Pooling/config.json'].map(async path => ({
      path,
      bytes: await readFile(join(checkpoint, path)),
      lfs: path.endsWith('.safetensors')
    }))
  )
  await using hub = await HubServer.start(files)
  const env = { HF_ENDPOINT: hub.url, HF_TOKEN: '' }
  // What a pull of another version has left, which is not there any more.
  const left = join(home, 'downloads', 'owner--model')
  await mkdir(left, { recursive: true })
  for (const file of ['model.safetensors', 'chat_template.jinja']) await writeFile(join(left, file), 'of old')
  const pulled = await edgeshard(['pull', 'owner/model', '--json'], env)
  expect(pulled).toMatchObject({ status: 0, stderr: '' })
  const imported = await edgeshard(['import', checkpoint, '--name', 'same', '--json'])
  expect(JSON.parse(pulled.stdout)).toEqual({ ...JSON.parse(imported.stdout), name: 'model' })
  expect((await readdir(join(home, 'downloads'))).filter(f => !f.endsWith('.lock'))).toEqual([])

  const summary = {
    name: 'model',
    precision: 'q8',
    holders: [{ peerId: 'p', name: 'desk', layers: [[0, 4]] }]
  }
  const node = createServer((_, response) => response.end(JSON.stringify({ models: [summary] })))
  await once(node.listen(0, '127.0.0.1'), 'listening')
  const running = await runningHome(home, { api: `http://127.0.0.1:${(node.address() as AddressInfo).port}` })
  const again = await edgeshard(['pull', 'owner/model', '--json'], env)
  expect(again).toMatchObject({ status: 0, stderr: expect.stringMatching(/already \(q8, on desk\)/) })
  await running[Symbol.asyncDispose]()
  node.close()

  hub.files.find(f => f.path === 'config.json')!.bytes = new TextEncoder().encode('{"model_type":"bert"}')
  hub.requests.length = 0
  const refused = await edgeshard(['pull', 'owner/model'], env)
  expect(refused.status).toBe(2)
  expect(refused.stderr).toMatch(/"bert" is not supported/)
  expect(hub.requests.filter(r => /\.safetensors( |$)/.test(r))).toEqual([])
})

it('judges a GGUF model on the hub by its header, and pulls one that is split', async () => {
  const content = tinyGguf()
  const bytes = new Uint8Array(4 * 2048 * 2048)
  const large = new Map([
    ...content.tensors,
    ['blk.0.more.weight', { type: 'F32', dims: [2048, 2048], bytes }]
  ])
  await using hub = await HubServer.start([
    { path: 'large.gguf', bytes: encodeGguf({ ...content, tensors: large }), lfs: true }
  ])
  const env = { HF_ENDPOINT: hub.url, HF_TOKEN: '' }
  const refused = await edgeshard(['pull', 'owner/model'], env)
  expect(refused).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/"blk\.0\.more\.weight" is not part of/)
  })
  const ends = hub.requests.map(request => Number(/bytes=\d+-(\d+)$/.exec(request)?.[1] ?? 0))
  expect(Math.max(...ends)).toBeLessThan(4_000_000)

  const wide = tinyGguf({ other: 'Q4_K', width: 256, layers: 1 })
  const tensors = [...wide.tensors]
  hub.files.length = 0
  for (const [i, own] of [tensors.slice(0, 9), tensors.slice(9)].entries()) {
    const split = { 'split.no': i, 'split.count': 2, 'split.tensors.count': tensors.length }
    const metadata = i === 0 ? { ...wide.metadata, ...split } : split
    const part = encodeGguf({ metadata, tensors: new Map(own) })
    hub.files.push({ path: `Q8/tiny-0000${i + 1}-of-00002.gguf`, bytes: part, lfs: true })
  }
  const pulled = await edgeshard(
    ['pull', 'owner/model', '--file', 'Q8/tiny-00002-of-00002.gguf', '--json'],
    env
  )
  // What it takes in the store is said once, and no terminal is there to be asked.
  const note = /^edgeshard: note: with its own values the model takes .* relative error .*\n$/
  expect(pulled).toMatchObject({ status: 0, stderr: expect.stringMatching(note) })
  const whole = join(folder.path, 'whole.gguf')
  await writeGguf(whole, wide)
  const imported = await edgeshard(['import', whole, '--json'])
  expect(JSON.parse(pulled.stdout)).toEqual({ ...JSON.parse(imported.stdout), name: 'tiny' })
})
