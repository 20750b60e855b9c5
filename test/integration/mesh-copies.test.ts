import { copyFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
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
  await until(() => notices.some(message => message.includes(`copy of another device's (${bare(attic)})`)))
  expect(desk.state().copies).toEqual([{ name: undefined, address: bare(attic) }])
})

test('a node that dials itself, at another address of its own too, is no copy', async () => {
  // As behind a router that leads the outer address back: a relay has an address that the node does not know.
  let first: Mesh | undefined
  const relay = createServer(near => {
    const port = first === undefined ? 0 : Number(/\d+$/.exec(bare(first))![0])
    const far = connect(port, '127.0.0.1').on('error', () => near.destroy())
    for (const [from, to] of [
      [near, far],
      [far, near]
    ] as const)
      from.pipe(to).on('error', () => from.destroy())
  })
  await new Promise<void>(resolve => relay.listen(0, '127.0.0.1', resolve))
  const outer = `/ip4/127.0.0.1/tcp/${(relay.address() as AddressInfo).port}`
  const notices: string[] = []
  first = await meshes.add('first', { peers: [outer] })
  first.events.on('notice', message => notices.push(message))
  try {
    await until(() => notices.some(message => message.includes('this node itself')))
    expect(first.state().copies).toEqual([])
    expect(notices.join()).not.toContain("copy of another device's")
  } finally {
    relay.close()
  }
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
