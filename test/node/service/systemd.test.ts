import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  installService,
  type ServiceHost,
  serviceStatus,
  uninstallService
} from '../../../node/service/systemd.ts'
import { unitText } from '../../../node/service/unit.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'

const run = promisify(execFile)
const ANALYZE = '/usr/bin/systemd-analyze'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(() => folder[Symbol.asyncDispose]())

const INIT = { command: [process.execPath, '/opt/edgeshard/edgeshard.mjs', 'up'], user: 'edgeshard' }

describe('the unit', () => {
  test('quotes what systemd would read otherwise', () => {
    const unit = unitText({ ...INIT, command: ['/opt/node', '/opt/my "apps"/100%/$x.mjs', 'up'] })
    expect(unit).toContain('ExecStart=/opt/node "/opt/my \\"apps\\"/100%%/$$x.mjs" up\n')
  })

  test('sees a program in a home, and no home else', () => {
    expect(unitText({ ...INIT, command: ['/usr/bin/node', '/opt/e.mjs'] })).toContain('ProtectHome=yes\n')
    expect(unitText({ ...INIT, command: ['/usr/bin/node', '/home/ada/e.mjs'] })).toContain(
      'ProtectHome=read-only\n'
    )
  })

  test('has to name the program by its whole path', () => {
    expect(() => unitText({ ...INIT, command: ['node'] })).toThrow('no absolute path')
  })

  test.skipIf(!existsSync(ANALYZE))('is one that systemd takes, word for word', async () => {
    const path = join(folder.path, 'edgeshard.service')
    // A user that systems have: systemd looks it up.
    const words = { command: [process.execPath, '/opt/my apps/edgeshard.mjs', 'up'], user: 'daemon' }
    await writeFile(path, unitText(words))
    const { stdout, stderr } = await run(ANALYZE, ['verify', '--man=no', path])
    expect((stdout + stderr).split('\n').filter(line => line.includes('edgeshard.service'))).toEqual([])
    await writeFile(path, unitText(words).replace('ProtectClock=yes', 'ProtectClocks=yes'))
    const wrong = await run(ANALYZE, ['verify', '--man=no', path]).catch(error => error as { stderr: string })
    expect(wrong.stderr).toContain('ProtectClocks')
  })
})

/** A device without the service, and what was run on it. */
function host({ knownUsers = [] as string[], shown = '' } = {}): { host: ServiceHost; ran: string[] } {
  const ran: string[] = []
  return {
    ran,
    host: {
      unitPath: join(folder.path, 'systemd', 'edgeshard.service'),
      configPath: join(folder.path, 'etc', 'config.json'),
      run: async (program, args) => {
        ran.push([program, ...args].join(' '))
        if (program === 'id' && !knownUsers.includes(args.at(-1)!))
          throw Object.assign(new Error(), { code: 1 })
        return shown
      }
    }
  }
}

describe('the service', () => {
  test('is installed with a user of its own and an empty configuration, started, and gone again', async () => {
    const { host: device, ran } = host()
    await mkdir(dirname(device.unitPath), { recursive: true })
    expect(await serviceStatus(device)).toEqual({ unit: null, enabled: false, state: 'inactive' })
    expect(await uninstallService(device)).toBe(false)
    await installService(INIT, device)
    expect(await readFile(device.unitPath, 'utf8')).toBe(unitText(INIT))
    expect(await readFile(device.configPath, 'utf8')).toBe('{}\n')
    // A key may be in it.
    if (process.platform !== 'win32') expect((await stat(device.configPath)).mode & 0o777).toBe(0o640)
    expect(ran).toEqual([
      'id --user edgeshard',
      expect.stringMatching(/^useradd --system --user-group .* edgeshard$/),
      `chgrp edgeshard ${device.configPath}`,
      'systemctl daemon-reload',
      'systemctl enable --now edgeshard'
    ])
    ran.length = 0
    expect(await uninstallService(device)).toBe(true)
    expect(ran).toEqual(['systemctl disable --now edgeshard', 'systemctl daemon-reload'])
    expect([existsSync(device.unitPath), existsSync(device.configPath)]).toEqual([false, true])
  })

  test('leaves a user and a configuration that are there as they are', async () => {
    const { host: device, ran } = host({ knownUsers: ['edgeshard'] })
    for (const path of [device.unitPath, device.configPath]) await mkdir(dirname(path), { recursive: true })
    await writeFile(device.configPath, '{"name":"press-4"}')
    await installService(INIT, device)
    expect(ran.filter(line => /^(useradd|chgrp)/.test(line))).toEqual([])
    expect(await readFile(device.configPath, 'utf8')).toBe('{"name":"press-4"}')
  })

  test('says how it is', async () => {
    const { host: device } = host({ shown: 'ActiveState=failed\nUnitFileState=enabled\n' })
    await mkdir(dirname(device.unitPath), { recursive: true })
    await writeFile(device.unitPath, '')
    expect(await serviceStatus(device)).toEqual({ unit: device.unitPath, enabled: true, state: 'failed' })
  })
})
