import { describe, expect, test } from 'vitest'
import { MESH_SIZE } from '../../../node/mesh/neighbourhood.ts'
import { type SimulatedDevice, SimulatedLargeMesh } from './simulated-relays.ts'

/** A mesh small enough to be simulated in a moment, and large by these figures. */
const size = { border: 8, chosen: 3 }
const SETTLED_MS = 40_000
/** A question that was asked of who hangs is asked of another one after 10 s; twice that, and a record more. */
const NOTICED_MS = 30_000

function meshOf(count: number, init: ConstructorParameters<typeof SimulatedLargeMesh>[0] = {}) {
  const mesh = new SimulatedLargeMesh({ size: MESH_SIZE, ...init })
  for (let i = 0; i < count; i++) {
    mesh.add(`device ${String(i).padStart(3, '0')}`)
    mesh.time.pass(20)
  }
  expect(
    mesh.time.pass(SETTLED_MS, () => mesh.isWhole, 200),
    'all see all'
  ).toBe(true)
  return mesh
}

const degrees = (mesh: SimulatedLargeMesh) => mesh.devices.map(device => mesh.degreeOf(device))
const sent = (mesh: SimulatedLargeMesh) => mesh.devices.reduce((sum, { sentBytes }) => sum + sentBytes, 0)
const all = (mesh: SimulatedLargeMesh, holds: (device: SimulatedDevice) => boolean) =>
  mesh.devices.every(holds)

test('sixteen devices are all connected to each other, and hand nothing on', () => {
  const mesh = meshOf(16)
  mesh.time.pass(SETTLED_MS)
  expect(degrees(mesh)).toEqual(Array(16).fill(15))
  expect(sent(mesh)).toBe(0)
})

test('the seventeenth makes it a large mesh: each has a few neighbours, and hears of all', () => {
  const mesh = meshOf(16)
  mesh.add('device 999')
  mesh.time.pass(SETTLED_MS)
  expect(mesh.isWhole).toBe(true)
  expect(Math.max(...degrees(mesh))).toBeLessThan(16)
  expect(Math.min(...degrees(mesh))).toBeGreaterThanOrEqual(MESH_SIZE.chosen)
  expect(mesh.changeOf(mesh.devices[0]!)).toBeLessThan(1000)
  expect(mesh.devices.flatMap(({ violators }) => violators)).toEqual([])
})

test('a mesh that has shrunk is whole again, each connected to all', () => {
  const mesh = meshOf(9, { size })
  mesh.time.pass(SETTLED_MS)
  expect(Math.min(...degrees(mesh))).toBeLessThan(8)
  for (const { peerId } of mesh.devices.slice(0, 4)) mesh.crash(peerId)
  mesh.time.pass(SETTLED_MS)
  expect(degrees(mesh)).toEqual(Array(5).fill(4))
})

describe('of 20 devices', () => {
  test('each has few neighbours, is silent when nothing happens, and knows a change within a second', () => {
    const mesh = meshOf(20, { size })
    mesh.time.pass(SETTLED_MS)
    expect(Math.max(...degrees(mesh))).toBeLessThan(16)
    const before = sent(mesh)
    mesh.time.pass(SETTLED_MS)
    expect(sent(mesh) - before).toBeLessThan(20 * 40_000)
    for (const device of mesh.devices.slice(0, 5)) expect(mesh.changeOf(device)).toBeLessThan(1000)
  })

  test('one that crashes, and one that hangs, is there for nobody any more; one that comes is there for all', () => {
    const mesh = meshOf(20, { size })
    mesh.time.pass(SETTLED_MS)
    const [crashed, hung] = mesh.devices as [SimulatedDevice, SimulatedDevice]
    mesh.crash(crashed.peerId)
    expect(mesh.time.pass(NOTICED_MS, () => all(mesh, device => !mesh.sees(device, crashed.peerId)))).toBe(
      true
    )
    mesh.hang(hung.peerId)
    expect(mesh.time.pass(NOTICED_MS, () => all(mesh, device => !mesh.sees(device, hung.peerId)))).toBe(true)
    mesh.time.pass(SETTLED_MS)
    expect(mesh.isWhole).toBe(true)

    const joined = mesh.add('device 999')
    const knowsAll = () => all(mesh, device => device === joined || mesh.sees(device, joined.peerId))
    expect(mesh.time.pass(NOTICED_MS, knowsAll)).toBe(true)
    mesh.time.pass(SETTLED_MS)
    expect(mesh.isWhole).toBe(true)
    expect(Math.max(...degrees(mesh))).toBeLessThan(16)
  })

  test.each([
    ['a minute and a half', 90_000],
    ['a quarter of an hour', 900_000]
  ])('one that was away for %s and whose clock was set back is there for all again', (_, awayMs) => {
    const mesh = meshOf(12, { size })
    mesh.time.pass(SETTLED_MS)
    const { peerId } = mesh.devices[4]!
    mesh.crash(peerId)
    mesh.time.pass(awayMs)
    const back = mesh.add('device 004', { wallMs: () => 7 })
    expect(back.peerId).toBe(peerId)
    const isThere = () => all(mesh, device => device === back || mesh.sees(device, peerId))
    expect(mesh.time.pass(2 * SETTLED_MS, isThere, 200)).toBe(true)
    // By its records, too, and not only for those that it is connected to.
    mesh.time.pass(SETTLED_MS)
    expect(all(mesh, ({ relays }) => relays === back.relays || relays.get(peerId) !== undefined)).toBe(true)
    expect(mesh.changeOf(back)).toBeLessThan(1000)
  })

  test('two halves of a partition see each other no more, and all of each other when it has healed', () => {
    const mesh = meshOf(20, { size })
    mesh.time.pass(SETTLED_MS)
    const left = new Set(mesh.devices.slice(0, 10).map(({ peerId }) => peerId))
    mesh.partition(peerId => Number(left.has(peerId)))
    mesh.time.pass(SETTLED_MS)
    expect(
      all(mesh, device =>
        mesh.devices.every(
          ({ peerId }) => left.has(peerId) === left.has(device.peerId) || !mesh.sees(device, peerId)
        )
      )
    ).toBe(true)
    mesh.partition(() => 0)
    expect(mesh.time.pass(SETTLED_MS, () => mesh.isWhole, 200)).toBe(true)
  })

  test('what is urgent does not wait for what is not: a measured link waits for a minute, free memory does not', () => {
    const mesh = meshOf(9, { size })
    mesh.time.pass(SETTLED_MS)
    const [device, other] = mesh.devices as [SimulatedDevice, SimulatedDevice]
    expect(mesh.changeOf(device)).toBeLessThan(1000)
    device.links = { [other.peerId]: { outMbps: 10, inMbps: 10, rttMs: 1, spread: 0, ageMs: 0 } }
    device.relays.changed()
    expect(mesh.changeOf(device)).toBeLessThan(1000)
  })

  test('two that work together keep their connection until they do no more', () => {
    const mesh = meshOf(20, { size })
    const [source, holder] = mesh.devices as [SimulatedDevice, SimulatedDevice]
    source.inUse.add(holder.peerId)
    mesh.time.pass(SETTLED_MS)
    expect(mesh.areConnected(source, holder)).toBe(true)
  })

  test('a device of the version before is connected to all', () => {
    const mesh = meshOf(20, { size })
    mesh.time.pass(SETTLED_MS)
    const old = mesh.add('device 999', { isOld: true })
    mesh.time.pass(SETTLED_MS)
    expect(mesh.degreeOf(old)).toBe(20)
    expect(all(mesh, device => device === old || mesh.sees(device, old.peerId))).toBe(true)
  })

  test('who is out of the mesh is kept by nobody, whoever hands its record on', () => {
    const mesh = meshOf(20, { size })
    mesh.time.pass(SETTLED_MS)
    const banned = mesh.devices[3]!
    const record = mesh.devices[0]!.relays.signedOf(banned.peerId)!
    mesh.ban(banned.peerId)
    mesh.time.pass(SETTLED_MS)
    expect(
      all(mesh, ({ relays, peerId }) => peerId === banned.peerId || relays.get(banned.peerId) === undefined)
    ).toBe(true)
    const [one, other] = mesh.someNeighbours()
    mesh.deliver(one, other, { type: 'have', records: [[banned.peerId, record.serial + 1]] })
    mesh.time.pass(1000)
    expect(other.relays.get(banned.peerId)).toBeUndefined()
  })
})

test('a member that lets in many devices of its own comes between none of those that owners let in', () => {
  const mesh = new SimulatedLargeMesh({ size })
  const name = (kind: string, i: number) => `${kind} ${String(i).padStart(3, '0')}`
  const owned = Array.from({ length: 10 }, (_, i) => mesh.add(name('device', i)))
  for (let i = 0; i < 14; i++) mesh.guests.add(mesh.add(name('guest', i)).peerId)
  mesh.time.pass(2 * SETTLED_MS)
  expect(Math.max(...owned.map(device => mesh.degreeOf(device)))).toBeLessThan(23)
  for (const device of owned) {
    const among = mesh.neighboursOf(device).filter(({ peerId }) => !mesh.guests.has(peerId))
    expect(among.length).toBeGreaterThanOrEqual(3)
  }
  expect(mesh.isOnePiece(owned)).toBe(true)
})

describe('a neighbour that lies', () => {
  const liar = () => {
    const mesh = meshOf(12, { size })
    mesh.time.pass(SETTLED_MS)
    const [from, to] = mesh.someNeighbours()
    const subject = mesh.devices.find(
      device => device !== from && device !== to && !mesh.areConnected(device, from)
    )!
    const known = to.relays.signedOf(subject.peerId)!
    return { mesh, from, to, subject, known }
  }

  test('cannot change what another device says: it is cut off, and the record stays', () => {
    const { mesh, from, to, subject, known } = liar()
    const forged = { ...known, serial: known.serial + 5, text: known.text.replace('1000', '7') }
    mesh.lie(from, to, { type: 'have', records: [[subject.peerId, forged.serial]] }, [forged])
    mesh.time.pass(2000)
    expect(to.violators).toContain(from.peerId)
    expect(to.relays.signedOf(subject.peerId)?.text).toBe(known.text)
  })

  test('cannot bring back an older record, nor send one that nobody has asked for', () => {
    const { mesh, from, to, subject, known } = liar()
    subject.freeBytes = 5
    subject.relays.changed()
    mesh.time.pass(5000)
    mesh.deliver(from, to, { type: 'have', records: [[subject.peerId, known.serial]] })
    mesh.time.pass(1000)
    expect(to.relays.signedOf(subject.peerId)!.serial).toBeGreaterThan(known.serial)
    mesh.deliver(from, to, { type: 'signed', records: [known] })
    mesh.time.pass(1000)
    expect(to.violators).toContain(from.peerId)
    expect(to.relays.signedOf(subject.peerId)!.serial).toBeGreaterThan(known.serial)
  })

  test('that says it has what it has not costs others a question, and keeps nothing from them', () => {
    const { mesh, from, to, subject, known } = liar()
    mesh.deliver(from, to, { type: 'have', records: [[subject.peerId, known.serial + 1_000_000]] })
    mesh.time.pass(1000)
    expect(mesh.changeOf(subject)).toBeLessThan(20_000)
    expect(to.violators).toEqual([])
  })

  test('that says a device is there that is not, or is not there that is, is believed by nobody', () => {
    const { mesh, from, subject } = liar()
    mesh.neighboursSaid.set(from.peerId, ids => ids.filter(id => id !== subject.peerId))
    from.relays.changed()
    mesh.time.pass(10_000)
    expect(all(mesh, device => device === subject || mesh.sees(device, subject.peerId))).toBe(true)
    mesh.crash(subject.peerId)
    mesh.neighboursSaid.set(from.peerId, ids => [...ids, subject.peerId])
    from.relays.changed()
    mesh.time.pass(10_000)
    expect(all(mesh, device => device === from || !mesh.sees(device, subject.peerId))).toBe(true)
  })

  test('that talks without end is cut off', () => {
    const { mesh, from, to, subject } = liar()
    for (let i = 0; i < 20; i++) {
      const records = Array.from({ length: 500 }, (_, k): [string, number] => [subject.peerId, 500 * i + k])
      mesh.deliver(from, to, { type: 'have', records })
    }
    mesh.time.pass(1000)
    expect(to.violators).toContain(from.peerId)
  })

  test('that signs record after record reaches others with few of them', () => {
    const { mesh, from } = liar()
    const serial = mesh.devices.find(device => device !== from)!.relays.signedOf(from.peerId)!.serial
    let handedOn = 0
    mesh.onSent = (by, message) => {
      if (by !== from.peerId && message.type === 'signed')
        handedOn += message.records.filter(({ device }) => device === from.peerId).length
    }
    const text = from.relays.signedOf(from.peerId)!.text
    for (let i = 1; i <= 600; i++) {
      const record = mesh.signed(from, serial + i, text)
      for (const to of mesh.neighboursOf(from))
        mesh.lie(from, to, { type: 'have', records: [[from.peerId, record.serial]] }, [record])
      mesh.time.pass(100)
    }
    // A minute: sixteen at once and one a second, to each of the ten that are not its neighbours at most once.
    expect(handedOn).toBeLessThan((16 + 60 + 5) * 11)
  })
})
