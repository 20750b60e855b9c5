import { afterEach, expect, test } from 'vitest'
import type { PairingState } from '../../node/api.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { pairForTicket } from '../../node/mesh/pair.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const LONG = { timeoutMs: deadlineMs(20_000) }

type Opened = Extract<PairingState, { open: true }>

async function opened(mesh: Mesh): Promise<Opened> {
  const state = await mesh.pairing.open()
  if (!state.open) throw new Error('pairing is not open')
  return state
}

test('two devices pair: the code is typed once, the ticket is for that device, and pairing is closed', async () => {
  const a = await meshes.add('a', { home: await meshes.home(null) })
  const { code, addresses } = await opened(a)
  const home = await meshes.home(null)
  const ticket = await pairForTicket(home, { addresses }, code, LONG)
  await expect(joinMesh(await meshes.home(null), ticket, { ...LONG, mdns: false })).rejects.toThrow(
    /another device/
  )
  expect(await joinMesh(home, ticket, { ...LONG, mdns: false })).toBe('joined')
  const b = await meshes.add('b', { home })
  await until(() => b.peers.length === 1)
  expect(a.pairing.state).toEqual({ open: false, end: 'paired', device: b.peerId })
  await expect(pairForTicket(await meshes.home(null), { addresses }, code, LONG)).rejects.toMatchObject({
    name: 'PairingError'
  })
  expect(a.members.state.devices.map(({ peerId }) => peerId)).toEqual([a.peerId, b.peerId])
})
