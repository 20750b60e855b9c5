/**
 * What a mesh of many devices costs and how soon all know what: `node test/bench/scale.ts [--real 16,32] [--simulated 16,64,128,256]
 * [--one-of 1,8,128] [--idle-minutes 30] [--no-gossipsub] [--no-links] [--profile FOLDER]`.
 *
 * Simulated: the real `Relays` of every device on simulated streams of 2 to 10 ms one way; bytes are those of signed
 * records, with headers, as each device sends them. Real: whole nodes with libp2p in this process, in a network namespace
 * of its own whose loopback counts every byte, heartbeats and TCP included; processor time is that of the process. With `--no-links`
 * those nodes measure no links. Beside both, gossipsub on the same connections, or on as many hosts, with the same records.
 * One of many: the real command in a process of its own, whose neighbours speak for a mesh of so many devices (scale-one.ts);
 * with `--profile` its processor profile is written there. Prints a line of each, with all its figures; SCALE.md has them as tables.
 */
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Mesh } from '../../node/mesh/index.ts'
import { LinkScheduler } from '../../node/mesh/link-scheduler.ts'
import { MESH_SIZE } from '../../node/mesh/neighbourhood.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { Meshes } from '../node/mesh/fixtures.ts'
import { BELOW_MESSAGE_BYTES, SimulatedLargeMesh } from '../node/mesh/simulated-relays.ts'
import { CHANGES, realGossip, saidBy, simulatedGossip } from './scale-gossipsub.ts'
import { oneOf } from './scale-one.ts'

const { values } = commandOptions(
  import.meta.url,
  {
    options: {
      real: { type: 'string', default: '16,32' },
      simulated: { type: 'string', default: '16,64,128,256' },
      'one-of': { type: 'string', default: '1,8,128' },
      profile: { type: 'string' },
      // Three times as long as it takes until every record is signed anew.
      'idle-minutes': { type: 'string', default: '30' },
      links: { type: 'boolean', default: true },
      gossipsub: { type: 'boolean', default: true },
      inside: { type: 'boolean', default: false }
    },
    allowNegative: true
  },
  ['inside']
)
const WHOLE_LIMIT_MS = 600_000
const IDLE_SECONDS = 30
const ONE_IDLE_SECONDS = 60
/** A node that sends less a second measures no link, and links are measured where that was so for no longer than this. */
const QUIET_BYTES = 20_000
const QUIET_MS = 30_000
const MAX_MEASURING_MS = 600_000
const IDLE_MS = 60_000 * Number(values['idle-minutes'])

/** Bytes of messages, with their length, by what they are: the rest of the loopback's is yamux, noise and TCP. */
const saidBytes = new Map<string, number>()
const send = JsonStream.prototype.send
JsonStream.prototype.send = function (message: object) {
  const { type = 'other' } = message as { type?: string }
  saidBytes.set(type, (saidBytes.get(type) ?? 0) + Buffer.byteLength(JSON.stringify(message)) + 4)
  return send.call(this, message)
}

if (!values.links) LinkScheduler.prototype.start = () => {}

const counts = (text: string) => text.split(',').filter(Boolean).map(Number)
const median = (times: number[]) => times.sort((a, b) => a - b)[times.length >> 1]!
const print = (line: string) => process.stdout.write(`${line}\n`)
/** What is being measured, since a line of figures takes minutes. */
const progress = (line: string) => process.stderr.write(`${line} ...\n`)

if (values.inside) {
  for (const count of counts(values['one-of'])) await one(count)
  for (const count of counts(values.real)) {
    await real(count)
    if (values.gossipsub) print(await realGossip(saidBy(meshOf(count)), IDLE_SECONDS, loopbackBytes))
  }
} else {
  for (const count of counts(values.simulated)) await simulated(count)
  const flags = `${values.links ? '' : '--no-links'} ${values.gossipsub ? '' : '--no-gossipsub'}`
  const lists = `--one-of "${counts(values['one-of'])}" --real "${counts(values.real)}"`
  const profile = values.profile === undefined ? '' : `--profile "${values.profile}"`
  const inside = `ip link set lo up && exec "${process.execPath}" "${fileURLToPath(import.meta.url)}" --inside ${flags} ${lists} ${profile}`
  const { status } = spawnSync('unshare', ['-rn', 'sh', '-c', inside], { stdio: 'inherit' })
  if (status !== 0) print('real nodes: skipped, network namespaces are not permitted here')
}

function meshOf(count: number): SimulatedLargeMesh {
  const mesh = new SimulatedLargeMesh()
  for (let i = 0; i < count; i++) {
    mesh.add(`device ${String(i).padStart(4, '0')}`)
    mesh.time.pass(20)
  }
  mesh.time.pass(120_000, () => mesh.isWhole, 500)
  return mesh
}

async function simulated(count: number): Promise<void> {
  progress(`simulating ${count} devices`)
  const mesh = meshOf(count)
  const { time, isWhole } = mesh
  const wholeMs = time.now()
  time.pass(60_000)
  const said = saidBy(mesh)
  const degrees = mesh.devices.map(device => mesh.degreeOf(device)).sort((a, b) => a - b)
  const sent = () => mesh.devices.reduce((sum, { sentBytes }) => sum + sentBytes, 0) / count
  const before = sent()
  time.pass(IDLE_MS)
  const idle = (sent() - before) / (IDLE_MS / 1000)
  const times: number[] = []
  const beforeChanges = sent()
  for (let change = 0; change < CHANGES; change++) {
    times.push(mesh.changeOf(mesh.devices[(change * 7) % count]!))
    time.pass(1000)
  }
  const perChange = (sent() - beforeChanges) / CHANGES
  const isSmall = count <= MESH_SIZE.border
  const gone = mesh.devices[3]!.peerId
  mesh.crash(gone)
  const crashedMs = time.now()
  time.pass(60_000, () => mesh.devices.every(device => !mesh.sees(device, gone)))
  const noticedMs = time.now() - crashedMs
  time.pass(20_000)
  const joined = mesh.add('one more')
  const joinedMs = time.now()
  time.pass(60_000, () => mesh.devices.every(device => device === joined || mesh.sees(device, joined.peerId)))
  const joinMs = time.now() - joinedMs
  time.pass(60_000, () => mesh.devices.every(device => device === joined || mesh.sees(joined, device.peerId)))
  const hasAllMs = time.now() - joinedMs
  print(
    `simulated ${count}: ${isWhole ? `whole after ${wholeMs.toFixed(0)} ms` : 'NOT WHOLE'}; neighbours ${degrees[0]} / ${median(degrees)} / ${degrees.at(-1)}; ` +
      (isSmall
        ? `a change goes straight to all, ${straightBytes(said.recordOf(said.devices[0]!), count).toFixed(0)} bytes a device; `
        : `a change known to all after ${median(times).toFixed(0)} ms, at worst ${times.at(-1)!.toFixed(0)}, ${perChange.toFixed(0)} bytes a device; `) +
      `records of an idle mesh ${idle.toFixed(0)} bytes/s a device; one crashed: known after ${noticedMs.toFixed(0)} ms; ` +
      `one more: known after ${joinMs.toFixed(0)} ms, has all records after ${hasAllMs.toFixed(0)} ms`
  )
  if (values.gossipsub) print(`  ${await simulatedGossip(said, peerIdOf('one more'))}`)
}

/** Bytes that a device sends on average when one changes, where all are connected to each other: what it says, unsigned. */
function straightBytes(signed: string, count: number): number {
  const { record } = JSON.parse(JSON.parse(signed).text)
  return (
    ((count - 1) * (Buffer.byteLength(JSON.stringify({ type: 'record', record })) + BELOW_MESSAGE_BYTES)) /
    count
  )
}

async function one(count: number): Promise<void> {
  progress(`one node of ${count}: some minutes`)
  const idleMs = 1000 * ONE_IDLE_SECONDS
  const found = await oneOf(count, { idleMs, profileDir: values.profile })
  print(
    `one of ${count}: knew all after ${(found.wholeMs / 1000).toFixed(1)} s; ${found.neighbours} neighbours; ` +
      `${(found.startCpuMs / 1000).toFixed(1)} s of a core until it was idle; ` +
      `idle ${(100 * found.share).toFixed(2)} % of a core, ${found.bytesPerSecond.toFixed(0)} bytes/s`
  )
}

async function real(count: number): Promise<void> {
  progress(`${count} nodes in this process: some minutes`)
  const meshes = new Meshes()
  const nodes: Mesh[] = []
  const startMs = performance.now()
  for (let i = 0; i < count; i++) {
    const peers = nodes.slice(0, 1).flatMap(mesh => mesh.addresses)
    nodes.push(await meshes.add(`node ${i}`, { peers }))
  }
  const alive = (node: Mesh) => node.peers.filter(({ state }) => state === 'connected').length
  const deadline = AbortSignal.timeout(WHOLE_LIMIT_MS)
  while (nodes.some(node => alive(node) < count - 1)) await delay(50, undefined, { signal: deadline })
  const wholeMs = performance.now() - startMs
  const measured = await linksMeasured(count)
  const seconds: number[] = []
  saidBytes.clear()
  const cpu = process.cpuUsage()
  const idleMs = performance.now()
  for (let second = 0; second < IDLE_SECONDS; second++) {
    const before = await loopbackBytes()
    await delay(1000)
    seconds.push(((await loopbackBytes()) - before) / count)
  }
  const { user, system } = process.cpuUsage(cpu)
  const said = [...saidBytes]
    .sort(([, a], [, b]) => b - a)
    .map(([type, bytes]) => `${type} ${(bytes / count / IDLE_SECONDS).toFixed(0)}`)
  const share = (user + system) / 1000 / (performance.now() - idleMs) / count
  const degrees = nodes.map(node => node.peers.filter(({ direct }) => direct).length).sort((a, b) => a - b)
  const times: number[] = []
  for (let change = 1; change <= CHANGES; change++) {
    const node = nodes[change % count]!
    const changedMs = performance.now()
    node.update({ memory: { budgetBytes: 1000, freeBytes: change } })
    const knows = (other: Mesh) =>
      other.peers.some(({ record }) => record.peerId === node.peerId && record.memory.freeBytes === change)
    while (!nodes.every(other => other === node || knows(other))) await delay(5)
    times.push(performance.now() - changedMs)
    await delay(500)
  }
  print(
    `real ${count}: whole after ${(wholeMs / 1000).toFixed(1)} s; neighbours ${degrees[0]} / ${median(degrees)} / ${degrees.at(-1)}; ` +
      `links measured for ${(measured.ms / 1000).toFixed(0)} s, ${(measured.bytes / 1e6).toFixed(0)} MB a node${measured.isDone ? '' : ', NOT DONE'}; ` +
      `idle ${median(seconds).toFixed(0)} bytes/s and ${(100 * share).toFixed(2)} % of a core a node (bytes/s of messages: ${said.join(', ')}); ` +
      `a change known to all after ${median(times).toFixed(0)} ms, at worst ${times.at(-1)!.toFixed(0)}`
  )
  await meshes.stop()
}

/** Waits until the links of a mesh that has just met are measured: until then that is nearly all of its traffic. */
async function linksMeasured(count: number): Promise<{ ms: number; bytes: number; isDone: boolean }> {
  const startMs = performance.now()
  const startBytes = await loopbackBytes()
  let quietMs = performance.now()
  for (;;) {
    const before = await loopbackBytes()
    await delay(1000)
    const now = performance.now()
    if (((await loopbackBytes()) - before) / count > QUIET_BYTES) quietMs = now
    const isDone = now - quietMs >= QUIET_MS
    if (isDone || now - startMs > MAX_MEASURING_MS)
      return { ms: quietMs - startMs, bytes: ((await loopbackBytes()) - startBytes) / count, isDone }
  }
}

async function loopbackBytes(): Promise<number> {
  const devices = await readFile('/proc/self/net/dev', 'utf8')
  return Number(/lo:\s*(\d+)/.exec(devices)![1])
}
