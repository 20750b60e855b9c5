import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readContacts, writeContacts } from '../../../node/mesh/contacts.ts'
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
