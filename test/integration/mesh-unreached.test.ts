import { afterEach, expect, test } from 'vitest'
import { saveMembership } from '../../node/mesh/membership.ts'
import { DIRECTORY_PROTOCOL } from '../../protocols/directory/constants.ts'
import { admitHome, admittedMembership, signedStatement, testMesh } from '../fixtures/admitted.ts'
import { Meshes, SECRET, until } from '../node/mesh/fixtures.ts'
import { message, nobody, rawMember } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

test('a member that only others reach is named, with who knows it, until they know it no longer', async () => {
  const [blocked, banned] = await Promise.all([nobody(), nobody()])
  const home = await meshes.home(null)
  const { mesh, founder } = await testMesh(SECRET)
  const self = await admitHome(home, SECRET)
  const known = await admittedMembership(SECRET, self)
  const ban = signedStatement(mesh, founder, { type: 'ban', device: banned, by: founder.peerId, counter: 1 })
  await saveMembership(home, { ...known, statements: [...known.statements, ban] })
  const a = await meshes.add('a', { home })
  await using b = await rawMember(a)
  const stream = await b.newStream(a.peerId, [DIRECTORY_PROTOCOL])
  const knows = (...peerIds: string[]) => {
    const addresses = ['/ip4/127.0.0.1/tcp/1', 'no address at all']
    const contacts = peerIds.map(peerId => ({ peerId, name: 'c', addresses }))
    stream.send(message({ type: 'contacts', contacts }))
  }
  knows(banned, a.peerId, b.peerId, blocked)
  await until(() => a.unreached.length > 0)
  expect(a.state().unreached).toMatchObject([{ peerId: blocked, name: 'c', knownFrom: [b.peerId] }])
  expect(a.peers).toEqual([])
  knows()
  await until(() => a.unreached.length === 0)
})
