import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { diagnose } from '../../../node/doctor/index.ts'
import { loadMembership } from '../../../node/mesh/membership.ts'
import { multicastHint } from '../../../node/mesh/multicast.ts'

let home: string
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'edgeshard-doctor-'))
})
afterEach(() => rm(home, { recursive: true, force: true }))

test('a new home on a healthy device has nothing but ok and notes about itself', async () => {
  const findings = await diagnose(join(home, 'not', 'there'))
  const own = findings.filter(({ check }) => ['home', 'disk', 'runtime'].includes(check))
  expect(own.map(({ check, level }) => `${check} ${level}`)).toEqual(['home ok', 'disk ok', 'runtime ok'])
  expect(own[2]?.found).toContain('cpu')
  expect(findings.find(({ check }) => check === 'node')?.advice).toContain('edgeshard up')
})

test('a readable key, a damaged mesh file and a node that is gone are found, each with what to do', async () => {
  await loadMembership(home)
  await chmod(join(home, 'mesh.json'), 0o644)
  await writeFile(join(home, 'api.json'), JSON.stringify({ api: 'http://127.0.0.1:9', pid: 1 }))
  expect(await diagnose(home)).toContainEqual(
    expect.objectContaining({
      level: 'problem',
      check: 'home',
      advice: `chmod 600 ${join(home, 'mesh.json')}`
    })
  )
  await writeFile(join(home, 'mesh.json'), '{"secret":"00"}')
  const damaged = (await diagnose(home)).find(({ check }) => check === 'home')
  expect(damaged?.found).toContain('mesh.json is damaged; remove it')
})

test('multicast errors say what to do on which interface', () => {
  const check = { address: '10.0.0.1', interface: 'eth7', error: 'ENETUNREACH' }
  expect(multicastHint(check)).toContain('ip route add 224.0.0.0/4 dev eth7')
  expect(multicastHint({ ...check, error: 'EPERM' })).toContain('firewall')
})
