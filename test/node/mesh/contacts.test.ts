import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { hostAndPort, readContacts, splitAddress, writeContacts } from '../../../node/mesh/contacts.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

test('an odd entry of the remembered peers costs itself alone, a damaged file the memory', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'peers.json')
  const contacts = new Map([[peerIdOf('b'), ['/ip4/10.0.0.2/tcp/1']]])
  await writeContacts(folder.path, new Map([['x', ['/ip4/10.0.0.3/tcp/1']], ...contacts]))
  expect(await readContacts(folder.path)).toEqual(contacts)
  await writeFile(path, (await readFile(path, 'utf8')).slice(0, -10))
  expect(await readContacts(folder.path)).toEqual(new Map())
})

test.each([
  ['192.168.1.20:7446', '/ip4/192.168.1.20/tcp/7446'],
  ['[fd00::7]:7446', '/ip6/fd00::7/tcp/7446'],
  ['agx-0.local:7446', '/dns/agx-0.local/tcp/7446'],
  ['/ip4/192.168.1.20/tcp/7446', '/ip4/192.168.1.20/tcp/7446']
])('%s is an address', (text, address) => {
  expect(splitAddress(text)).toEqual({ address, peerId: undefined })
  expect(splitAddress(hostAndPort(address)).address).toBe(address)
})

test.each([
  '192.168.1.20',
  '192.168.1.20:',
  ':7446',
  '1.2.3.4:70000',
  'fd00::7:7446',
  '[agx]:1',
  '-a:1',
  'a b:1',
  ''
])("'%s' is none, and what one looks like is said", text => {
  expect(() => splitAddress(text)).toThrow(/is no address such as 192\.168\.1\.20:7446 or/)
})

test('a multiaddr keeps the peer id that it ends in', () => {
  expect(splitAddress(`/ip4/10.0.0.2/tcp/1/p2p/${peerIdOf('b')}`)).toEqual({
    address: '/ip4/10.0.0.2/tcp/1',
    peerId: peerIdOf('b')
  })
})
