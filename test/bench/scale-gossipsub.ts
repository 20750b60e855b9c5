/** What gossipsub does with the records of a large mesh, for test/bench/scale.ts to print beside what this project's own way does. */
import { setTimeout as delay } from 'node:timers/promises'
import { REFRESH_MS } from '../../node/mesh/far-devices.ts'
import { prng } from '../fixtures/prng.ts'
import type { SimulatedDevice, SimulatedLargeMesh } from '../node/mesh/simulated-relays.ts'
import { RealGossip } from './gossipsub-real.ts'
import { SimulatedGossip } from './gossipsub-simulated.ts'

export const CHANGES = 20
/** Heartbeats in which it is settled who pushes to whom. */
const SETTLE_MS = 20_000
const KNOWN_LIMIT_MS = 20_000
/** A message is announced in three heartbeats. */
const ANNOUNCED_MS = 4000
/** A fifth of the time in which each record is signed anew. */
const IDLE_MS = REFRESH_MS / 5
const JOINED_MS = 10_000

const median = (times: readonly number[]) => [...times].sort((a, b) => a - b)[times.length >> 1]!

/** What a mesh has to say: who is connected to whom, and what each device would hand on. */
export interface Said {
  devices: string[]
  links: [string, string][]
  /** A new text each time, as long as a signed record. */
  recordOf(device: string): string
}

export function saidBy(mesh: SimulatedLargeMesh): Said {
  const { devices } = mesh
  const byId = new Map(devices.map(device => [device.peerId, device]))
  const links = devices.flatMap(device =>
    mesh
      .neighboursOf(device)
      .flatMap(({ peerId }): [string, string][] => (device.peerId < peerId ? [[device.peerId, peerId]] : []))
  )
  // As it is now: what happens to the mesh later is nothing to gossipsub.
  const records = new Map(devices.map(device => [device.peerId, mesh.recordOf(device, 1)]))
  let serial = Date.now()
  const recordOf = (device: string) =>
    JSON.stringify(mesh.signed(byId.get(device) as SimulatedDevice, serial++, records.get(device)!.text))
  return { devices: [...byId.keys()], links, recordOf }
}

/** @param newcomer - a device that is not in the mesh yet */
export async function simulatedGossip({ devices, links, recordOf }: Said, newcomer: string): Promise<string> {
  const count = devices.length
  const random = prng(count)
  const gossip = new SimulatedGossip()
  for (const device of devices) {
    await gossip.add(device)
    await gossip.pass(20)
  }
  for (const [one, other] of links) {
    const [dialler, dialled] = random() < 0.5 ? [one, other] : [other, one]
    gossip.connect(dialler, dialled, 2 + 8 * random())
  }
  await gossip.pass(SETTLE_MS)

  const startBytes = gossip.sentBytes
  const dueMs = devices
    .map(device => ({ device, atMs: random() * REFRESH_MS }))
    .sort((a, b) => a.atMs - b.atMs)
  let nowMs = 0
  for (const { device, atMs } of dueMs.filter(({ atMs }) => atMs < IDLE_MS)) {
    await gossip.pass(atMs - nowMs)
    nowMs = atMs
    await gossip.publish(device, recordOf(device))
  }
  await gossip.pass(IDLE_MS - nowMs)
  const idle = (gossip.sentBytes - startBytes) / (IDLE_MS / 1000)
  await gossip.pass(ANNOUNCED_MS)

  const times: number[] = []
  const changesBytes = gossip.sentBytes
  for (let change = 0; change < CHANGES; change++) {
    const by = devices[(change * 7) % count]!
    const text = recordOf(by)
    await gossip.publish(by, text)
    const knows = () => devices.every(device => device === by || gossip.has(device, text))
    times.push(await gossip.pass(KNOWN_LIMIT_MS, knows))
    await gossip.pass(ANNOUNCED_MS)
  }
  const perChange = (gossip.sentBytes - changesBytes) / CHANGES

  // Who comes hears of what was published in the last heartbeats alone.
  const known = new Map<string, string>()
  for (const device of devices) {
    known.set(device, recordOf(device))
    await gossip.publish(device, known.get(device)!)
    await gossip.pass(20)
  }
  await gossip.pass(JOINED_MS)
  await gossip.add(newcomer)
  for (let i = 0; i < Math.min(4, count); i++)
    gossip.connect(newcomer, devices[Math.floor((i * count) / 4)]!, 2 + 8 * random())
  await gossip.pass(JOINED_MS)
  const has = [...known.values()].filter(text => gossip.has(newcomer, text)).length
  const next = recordOf(devices[1]!)
  await gossip.publish(devices[1]!, next)
  if (!Number.isFinite(await gossip.pass(KNOWN_LIMIT_MS, () => gossip.has(newcomer, next))))
    throw new Error('the one that has come hears of nothing new, either')
  await gossip.stop()
  return (
    `gossipsub on the same connections: a change known to all after ${median(times).toFixed(0)} ms, at worst ${Math.max(...times).toFixed(0)}, ` +
    `${perChange.toFixed(0)} bytes a device; records of an idle mesh ${idle.toFixed(0)} bytes/s a device; ` +
    `one more has ${has} of ${count} records after ${JOINED_MS / 1000} s`
  )
}

/** Real hosts, whose bytes `sentBytes` counts, all of them together. */
export async function realGossip(
  { devices, recordOf }: Said,
  idleS: number,
  sentBytes: () => Promise<number>
): Promise<string> {
  const count = devices.length
  const gossip = await RealGossip.create(count)
  const degrees = gossip.neighbours.sort((a, b) => a - b)
  await delay(SETTLE_MS)
  const [startBytes, startCpu, startMs] = [await sentBytes(), process.cpuUsage(), performance.now()]
  await delay(1000 * idleS)
  const idle = ((await sentBytes()) - startBytes) / idleS
  const { user, system } = process.cpuUsage(startCpu)
  const share = (user + system) / 1000 / (performance.now() - startMs) / count
  const times: number[] = []
  const [changesBytes, changesMs] = [await sentBytes(), performance.now()]
  for (let change = 0; change < CHANGES; change++) {
    const at = (change * 7) % count
    const text = recordOf(devices[at]!)
    const changedMs = performance.now()
    await gossip.publish(at, text)
    const deadline = AbortSignal.timeout(KNOWN_LIMIT_MS)
    while (!gossip.allHave(at, text)) await delay(2, undefined, { signal: deadline })
    times.push(performance.now() - changedMs)
    await delay(ANNOUNCED_MS)
  }
  const idleBytes = (idle * (performance.now() - changesMs)) / 1000
  const perChange = ((await sentBytes()) - changesBytes - idleBytes) / CHANGES / count
  await gossip.stop()
  return (
    `gossipsub, real ${count}: neighbours ${degrees[0]} / ${median(degrees)} / ${degrees.at(-1)}; idle ${(idle / count).toFixed(0)} bytes/s and ${(100 * share).toFixed(2)} % of a core a host; ` +
    `a change known to all after ${median(times).toFixed(0)} ms, at worst ${Math.max(...times).toFixed(0)}, ${perChange.toFixed(0)} bytes a host`
  )
}
