import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, expect, test } from 'vitest'
import type { LayerRange } from '../../models/layers.ts'
import { type ModelShape, modelId, serializeManifest } from '../../models/manifest.ts'
import { SHARD_BYTES } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { createClient } from '../../node/client/index.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { TINY_SHAPE } from '../fixtures/random-model.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

/** What SECURITY.md states beside the budget. */
const BESIDES_BYTES = 512 * 2 ** 20
const BUDGET_BYTES = 64 * 2 ** 20
const LAUNCHER = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
const linux = process.platform === 'linux'

const meshes = new Meshes()
const running: ChildProcess[] = []
afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await meshes.stop()
})

/** A node as a person starts it: without a channel, and without an allocator that was told anything. */
async function up(home: string, args: string[]): Promise<{ child: ChildProcess; api: string }> {
  const options = ['--home', home, '--no-mdns', '--port', '0', '--api', '127.0.0.1:0', '--json', ...args]
  const { GLIBC_TUNABLES: _, ...env } = process.env
  const child = spawn(process.execPath, [LAUNCHER, 'up', ...options], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env
  })
  running.push(child)
  for await (const line of createInterface({ input: child.stdout! })) {
    const event = JSON.parse(line)
    if (event.event !== 'ready') continue
    child.stdout!.resume()
    return { child, api: event.api }
  }
  throw new Error('the node ended before it was ready')
}

/** A figure of a process in bytes, as the kernel gives it in kB. */
function bytesOf(child: ChildProcess, file: 'status' | 'smaps_rollup', name: string): number {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(
    readFileSync(`/proc/${child.pid}/${file}`, 'utf8')
  )
  return Number(found?.[1]) * 1024
}

/** A model of that shape whose every layer is made of zeros, as files that a member hands out. */
function crafted(shape: Partial<ModelShape>) {
  const random = randomManifest({ ...TINY_SHAPE, decoderLayers: 1, ...shape }, { bits: 4, blockSize: 32 })
  const files = new Map<string, Uint8Array>()
  const put = (bytes: Uint8Array) => {
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    files.set(sha256, bytes)
    return sha256
  }
  const layers = random.layers.map(layer => ({ ...layer, sha256: put(new Uint8Array(layer.bytes)) }))
  const bytes = serializeManifest({ ...random, layers })
  put(bytes)
  return { id: modelId(bytes), files }
}

test.skipIf(!linux)(
  'whatever frames and leases a member sends, a node stays within its budget and what is stated besides',
  { timeout: deadlineMs(120_000) },
  async () => {
    const { child, api } = await up(await meshes.home(), ['--memory', `${BUDGET_BYTES}`, '--no-bundled'])
    const { self } = await createClient({ url: api }).mesh()
    // A layer of 15 MiB whose every token takes 4 MiB while it is computed.
    const wide = crafted({ hiddenSize: 32, ffnSize: 2 ** 18, heads: 2, kvHeads: 1, contextLength: 4096 })
    const came: StageFrame[] = []
    const mesh = await meshes.add('member', {
      peers: self.addresses,
      handlers: {
        stage: {
          allocate: (_, { tokens, hiddenSize }) =>
            new Float32Array(new SharedArrayBuffer(4 * tokens * hiddenSize)),
          onFrame: (_, frame) => void came.push(frame),
          onLost: () => {}
        },
        weights: {
          open: async sha256 => {
            const bytes = wide.files.get(sha256)
            if (bytes === undefined) return null
            const stream = async function* (offset: number) {
              for (let at = offset; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536)
            }
            return { bytes: bytes.length, stream }
          }
        }
      }
    })
    await until(() => mesh.peers.length === 1)
    const range: LayerRange = [1, 2]
    const request = { modelId: wide.id, range: [...range] as [number, number], maxTokens: 2048, sessions: 1 }

    // As honest sources ask, for frames of 32 tokens: they would not fit, so there is no such lease.
    const asked = await mesh.lease(self.peerId)
    expect(await asked.reserve(request)).toMatchObject({ type: 'refused', code: 'memory' })
    asked.end()

    const lease = await mesh.lease(self.peerId)
    const granted = await lease.reserve({ ...request, frameTokens: 1 })
    if (granted.type !== 'granted') throw new Error(JSON.stringify(granted))
    const { leaseId } = granted
    const neighbours = { previous: mesh.peerId, next: mesh.peerId }
    await lease.load({ leaseId, holders: [mesh.peerId], ...neighbours }, { timeoutMs: deadlineMs(30_000) })
    const send = async (tokens: number) => {
      await lease.renew(leaseId)
      const sessionId = randomBytes(16).toString('hex')
      await lease.open({ leaseId, sessionId, slot: 0, keepTokens: 0, withholdTokens: 0 })
      const hidden = new Float32Array(new SharedArrayBuffer(4 * tokens * 32)).fill(0.1)
      const frame = { rows: [{ sessionId, position: 0 }], tokens, hiddenSize: 32, sample: false, timings: [] }
      const before = came.length
      await mesh.stageStreams.send(self.peerId, { ...frame, type: 'hidden', hidden })
      await until(() => came.length > before)
      await lease.close(sessionId)
      return came.at(-1)!
    }
    // What the lease was costed for is computed; what is larger arrives and is refused.
    expect(await send(1)).toMatchObject({ type: 'hidden', tokens: 1 })
    for (const tokens of [512, 512, 2]) {
      expect(await send(tokens)).toMatchObject({ type: 'error', code: 'input' })
    }
    expect(await send(1)).toMatchObject({ type: 'hidden', tokens: 1 })
    expect(bytesOf(child, 'status', 'VmHWM')).toBeLessThan(BUDGET_BYTES + BESIDES_BYTES)
  }
)

test.skipIf(!linux)(
  'a node that holds a stage takes no more than its lease, in huge pages where the system has them',
  { timeout: deadlineMs(120_000) },
  async ({ skip }) => {
    const home = await meshes.home()
    const small = { decoderLayers: 1, hiddenSize: 64, ffnSize: 96, heads: 2, kvHeads: 1, headSize: 32 }
    const large = { decoderLayers: 8, hiddenSize: 1024, ffnSize: 2816, heads: 16, kvHeads: 4, headSize: 64 }
    for (const [name, shape] of Object.entries({ small, large })) {
      const quantization = { bits: 4, blockSize: 32 } as const
      await randomStore(join(home, 'store'), { name, shape, quantization })
    }
    const { child, api } = await up(home, ['--memory', '1GiB', '--threads', '1'])
    const client = createClient({ url: api })
    // What the first answer brings besides: threads that plan, a tokenizer's pipes, compiled code.
    await client.complete({ model: 'small', prompt: 'a b c', max_tokens: 4 })
    const before = bytesOf(child, 'status', 'RssAnon')
    await client.complete({ model: 'large', prompt: 'a b c', max_tokens: 4 })
    const after = bytesOf(child, 'status', 'RssAnon')
    const leased = Math.max(...(await client.mesh()).leases.map(({ bytes }) => bytes))
    expect(leased).toBeGreaterThan(64 * 2 ** 20)
    process.stderr.write(`memory: ${((after - before) / leased).toFixed(2)} of a lease of ${leased} bytes\n`)
    expect(after - before).toBeLessThan(1.08 * leased + SHARD_BYTES)
    const enabled = readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8')
    if (enabled.includes('[never]')) skip('this system has no transparent huge pages')
    expect(bytesOf(child, 'smaps_rollup', 'AnonHugePages')).toBeGreaterThan(leased / 4)
    // The process that was started is the node, and ends as it does.
    child.kill('SIGTERM')
    expect(await once(child, 'exit')).toEqual([0, null])
  }
)
