import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { splitAddress } from '../../node/mesh/contacts.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

/** A home and its copy. */
async function homes(): Promise<[home: string, copy: string, peerId: string]> {
  const [home, copy] = [await meshes.home(), await meshes.home()]
  const first = await meshes.add('first', { home })
  await first.stop()
  await copyFile(join(home, 'identity.key'), join(copy, 'identity.key'))
  return [home, copy, first.peerId]
}

function noticesOf(mesh: Mesh): string[] {
  const notices: string[] = []
  mesh.events.on('notice', message => notices.push(message))
  return notices
}

const bare = (mesh: Mesh) => splitAddress(mesh.addresses[0]!).address

test('a home that is dialled and proves to be a copy of the own one is named', async () => {
  const [home, copy] = await homes()
  const attic = await meshes.add('attic', { home })
  const desk = await meshes.add('desk', { home: copy, peers: [bare(attic)] })
  const notices = noticesOf(desk)
  await until(() => notices.length > 0)
  expect(notices[0]).toContain(`copy of another device's (${bare(attic)})`)
  expect(desk.state().copies).toEqual([{ name: undefined, address: bare(attic) }])
})

test('a node that is dialled at its own address is no copy', async () => {
  const first = await meshes.add('first')
  const failures: string[] = []
  first.events.on('notice', message => failures.push(message))
  first.dialFailed({ target: bare(first), reason: 'self', refused: false, met: false, isSelf: true })
  expect(first.state().copies).toEqual([])
  expect(failures.join()).not.toContain('copy')
})

test('a third node names both, and tells them of each other', async () => {
  const [home, copy, peerId] = await homes()
  // Of two connections under one id the member with the larger id of its own closes none.
  let third = await meshes.add('third')
  while (third.peerId < peerId) third = await meshes.add('third')
  const notices = noticesOf(third)
  const attic = await meshes.add('attic', { home, peers: third.addresses })
  await until(() => third.peers.length > 0)
  const desk = await meshes.add('desk', { home: copy, peers: third.addresses })
  await until(() => notices.length > 0)
  expect(notices).toEqual([expect.stringMatching(/(attic and desk|desk and attic) run with one identity/)])
  await until(() => attic.state().copies.length + desk.state().copies.length > 0)
  const met = [...attic.state().copies, ...desk.state().copies].map(({ address }) => address)
  for (const address of met) expect([bare(attic), bare(desk)]).toContain(address)
})
