import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { CONFIG_PATH, SERVICE_NAME, type ServiceInit, UNIT_PATH, unitText } from './unit.ts'

const run = promisify(execFile)

/** What of the device the service is installed on; tests give another. */
export interface ServiceHost {
  unitPath: string
  configPath: string
  /** Runs a program of the system. @throws where it ends with another status than 0 */
  run(program: string, args: readonly string[]): Promise<string>
}

export const SYSTEM: ServiceHost = {
  unitPath: UNIT_PATH,
  configPath: CONFIG_PATH,
  run: async (program, args) => (await run(program, [...args])).stdout
}

/** It may have an API key: the service's group reads it, and nobody else. */
const CONFIG_MODE = 0o640

export interface ServiceStatus {
  /** Path of the unit; null: it is not installed. */
  unit: string | null
  /** Whether it is started with the device. */
  enabled: boolean
  /** `active`, `activating`, `inactive`, `failed` or another word of systemd's. */
  state: string
}

/** Installs the unit with a user of its own and a configuration to fill in, and starts it. */
export async function installService(init: ServiceInit, host: ServiceHost = SYSTEM): Promise<void> {
  const { unitPath, configPath } = host
  if (!(await succeeds(host, 'id', ['--user', init.user]))) {
    const folders = ['--home-dir', '/nonexistent', '--no-create-home', '--shell', '/usr/sbin/nologin']
    await host.run('useradd', ['--system', '--user-group', ...folders, init.user])
  }
  if (!existsSync(configPath)) await writeConfig(init, host)
  await writeFile(unitPath, unitText(init))
  await host.run('systemctl', ['daemon-reload'])
  await host.run('systemctl', ['enable', '--now', SERVICE_NAME])
}

/** Stops the service and takes the unit away; state, configuration and user stay. @returns false where there is none */
export async function uninstallService(host: ServiceHost = SYSTEM): Promise<boolean> {
  if (!existsSync(host.unitPath)) return false
  await host.run('systemctl', ['disable', '--now', SERVICE_NAME])
  await rm(host.unitPath, { force: true })
  await host.run('systemctl', ['daemon-reload'])
  return true
}

export async function serviceStatus(host: ServiceHost = SYSTEM): Promise<ServiceStatus> {
  if (!existsSync(host.unitPath)) return { unit: null, enabled: false, state: 'inactive' }
  const shown = await host.run('systemctl', ['show', '--property=ActiveState,UnitFileState', SERVICE_NAME])
  const of = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? ''
  return { unit: host.unitPath, enabled: of('UnitFileState') === 'enabled', state: of('ActiveState') }
}

/** An empty configuration. */
async function writeConfig({ user }: ServiceInit, host: ServiceHost): Promise<void> {
  const { configPath } = host
  await mkdir(dirname(configPath), { recursive: true })
  await writeFile(configPath, '{}\n', { mode: CONFIG_MODE })
  await host.run('chgrp', [user, configPath])
  // Behind the change of its group, and whatever the umask is.
  await chmod(configPath, CONFIG_MODE)
}

async function succeeds(host: ServiceHost, program: string, args: readonly string[]): Promise<boolean> {
  try {
    await host.run(program, args)
    return true
  } catch (error) {
    // The program's own "no"; that it is missing or cannot be run is an error.
    if (typeof (error as { code?: unknown }).code === 'number') return false
    throw error
  }
}
