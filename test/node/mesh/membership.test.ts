import { chmod, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { loadIdentity } from '../../../node/mesh/identity.ts'
import { loadMembership, meshKeys, newSecret, saveMembership } from '../../../node/mesh/membership.ts'
import { admittedMembership } from '../../fixtures/admitted.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

test('the identity is made once, in a file that only its owner may read', async () => {
  await using folder = await temporaryFolder()
  const key = await loadIdentity(folder.path)
  expect((await loadIdentity(folder.path)).equals(key)).toBe(true)
  const path = join(folder.path, 'identity.key')
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  await chmod(path, 0o600)
  await writeFile(path, 'no key')
  await expect(loadIdentity(folder.path)).rejects.toThrow(/identity\.key is not a key; remove it/)
})

test('what goes on the wire follows from the secret and does not hold it', () => {
  const secret = newSecret()
  expect(meshKeys(secret)).toEqual(meshKeys(secret))
  const { prologue, serviceTag, interfaceTag } = meshKeys(secret)
  const other = meshKeys(newSecret())
  expect([other.serviceTag, other.interfaceTag]).not.toContain(serviceTag)
  expect(Buffer.from(other.prologue)).not.toEqual(Buffer.from(prologue))
  const hex = Buffer.from(secret).toString('hex')
  for (const derived of [serviceTag, interfaceTag, Buffer.from(prologue).toString('hex')])
    for (let at = 0; at + 8 <= hex.length; at += 2) expect(derived).not.toContain(hex.slice(at, at + 8))
})

test('a damaged mesh file stops the start and says what to do; a new one is written whole', async () => {
  await using folder = await temporaryFolder()
  const self = peerIdOf('a')
  const membership = await loadMembership(folder.path, self)
  expect(membership).toMatchObject({
    mesh: expect.stringMatching(`^${self}\\.[0-9a-f]{32}$`),
    statements: []
  })
  const known = await admittedMembership(membership.secret, peerIdOf('b'))
  await saveMembership(folder.path, { ...known, epoch: 7 })
  expect(await loadMembership(folder.path, self)).toEqual({ ...known, epoch: 7 })
  const path = join(folder.path, 'mesh.json')
  await writeFile(path, (await readFile(path, 'utf8')).slice(0, -10))
  await expect(loadMembership(folder.path, self)).rejects.toThrow(
    /mesh\.json is damaged; remove it .* or join again/
  )
})

test('a mesh file of the time when its copies were members is refused, with what to do', async () => {
  await using folder = await temporaryFolder()
  const old = { secret: '07'.repeat(32), epoch: 0, banned: [] }
  await writeFile(join(folder.path, 'mesh.json'), JSON.stringify(old))
  await expect(loadMembership(folder.path, peerIdOf('a'))).rejects.toMatchObject({
    name: 'HomeFileError',
    message: expect.stringMatching(/mesh\.json is of an earlier version.* remove it .* a ticket of its own/)
  })
  expect(JSON.parse(await readFile(join(folder.path, 'mesh.json'), 'utf8'))).toEqual(old)
})
