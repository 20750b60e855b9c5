import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command } from 'commander'
import { installService, serviceStatus, uninstallService } from '../../service/systemd.ts'
import { CONFIG_PATH, type ServiceInit, STATE_DIR, UNIT_PATH, unitText } from '../../service/unit.ts'
import { InputError } from '../errors.ts'

interface InstallOptions {
  config: string
  user: string
  print?: boolean
}

/** `edgeshard service`: the node as a service of this device, by systemd. */
export function serviceCommand(): Command {
  return new Command('service')
    .description('Run the node of this device as a service of systemd, started with the device.')
    .addCommand(
      new Command('install')
        .description('Write the unit, with a user of its own, and start it. For root, but for --print.')
        .option('--config <file>', 'configuration file of the node', CONFIG_PATH)
        .option('--user <name>', 'user and group that it runs as, made where there is none', 'edgeshard')
        .option('--print', 'print the unit, and do nothing')
        .action(install)
    )
    .addCommand(
      new Command('uninstall')
        .description('Stop the service and take its unit away; models, keys and configuration stay.')
        .action(async () => {
          asRoot()
          const removed = await uninstallService()
          process.stdout.write(
            removed
              ? `The service is gone. ${STATE_DIR}, its configuration and its user are still there.\n`
              : 'No service is installed.\n'
          )
        })
    )
    .addCommand(
      new Command('status')
        .description('Say whether the service is installed, started with the device, and running.')
        .option('--json', 'one JSON document on stdout')
        .action(async ({ json }: { json?: boolean }) => {
          const status = await serviceStatus()
          if (json === true) return void process.stdout.write(`${JSON.stringify(status)}\n`)
          const { unit, enabled, state } = status
          process.stdout.write(
            unit === null
              ? 'No service is installed.\n'
              : `${unit} is ${state}, and ${enabled ? '' : 'not '}started with the device.\n`
          )
        })
    )
}

async function install({ config, user, print = false }: InstallOptions): Promise<void> {
  if (!/^[a-z_][a-z0-9_-]{0,30}$/.test(user)) throw new InputError(`--user ${user} is no name of a user`)
  const init: ServiceInit = {
    command: [process.execPath, launcher(), 'up', '--config', resolve(config)],
    user
  }
  if (print) return void process.stdout.write(unitText(init))
  asRoot()
  await installService(init)
  process.stdout.write(
    `The service runs: ${UNIT_PATH}, options in ${resolve(config)}, state in ${STATE_DIR}.\n` +
      `Commands ask it with --home ${STATE_DIR}, as root or as ${user}.\n`
  )
}

/** @throws {InputError} for whoever may not, and where there is no systemd */
function asRoot(): void {
  if (process.platform !== 'linux' || !existsSync('/run/systemd/system')) {
    throw new InputError(
      'systemd does not run here; node/service/README.md of the package says how launchd, Windows and containers start a node'
    )
  }
  if (process.getuid?.() !== 0) throw new InputError('only root can do that: put sudo before it')
}

/** The launcher of this package: beside the sources, or where the package keeps it for what is compiled. */
function launcher(): string {
  const [found] = ['../edgeshard.mjs', '../../../../node/cli/edgeshard.mjs']
    .map(path => fileURLToPath(new URL(path, import.meta.url)))
    .filter(path => existsSync(path))
  return found!
}
