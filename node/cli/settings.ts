import { readFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import { isNear } from '../near-name.ts'
import { InputError } from './errors.ts'
import { type Setting, settingsOf } from './setting.ts'

/** Say where settings come from, or ask for something else; `home` of the environment counts for every command. */
const NO_SETTINGS = ['config', 'help', 'version']
/** The environment is asked for these where the key is read, by rules of its own (`api-key.ts`). */
const KEY_SETTINGS = ['api-key', 'api-key-file']

/** Kubernetes sets this one to the address of a service called "edgeshard", beside the node's own use of it. */
const LINK_VARIABLE = 'EDGESHARD_PORT'
const LINK = /^(tcp|udp):\/\//

/**
 * Lets the environment (`EDGESHARD_NAME`) and a file (`--config`, `EDGESHARD_CONFIG`) set every option of a command. What
 * the command line says goes first, then the environment, then the file, then what is usual.
 */
export function addSettings(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--config <file>',
        'JSON file of options, each by its name without dashes, such as "memory": "4GiB" or "mdns": false'
      )
    )
    .addHelpText(
      'after',
      '\nEvery option is read from the environment too, as EDGESHARD_NAME (--keep-alive: EDGESHARD_KEEP_ALIVE), and from the file ' +
        'of --config;\nthe command line goes first, then the environment, then the file.'
    )
    .hook('preAction', async (_, acting) => await readSettings(acting, process.env))
}

/** Settings of a command that a file may have. */
export function fileSettings(command: Command): Setting[] {
  return settingsOf(command, NO_SETTINGS)
}

/**
 * Sets what the command line did not.
 *
 * @throws {InputError} naming the variable, or the file and the key, that is no option or has no value of it
 */
export async function readSettings(
  command: Command,
  environment: Readonly<Record<string, string | undefined>>
): Promise<void> {
  const settings = fileSettings(command)
  const isSaid = ({ attribute }: Setting) =>
    ['cli', 'env'].includes(command.getOptionValueSource(attribute) ?? '')
  const variable = (setting: Setting) => environment[setting.variable] || undefined
  for (const setting of settings) {
    const text = KEY_SETTINGS.includes(setting.name) ? undefined : variable(setting)
    if (isSaid(setting) || text === undefined) continue
    if (setting.variable === LINK_VARIABLE && LINK.test(text)) {
      process.stderr.write(
        `edgeshard: note: ${LINK_VARIABLE} has the address of a service of Kubernetes and is passed over; --port or the file of --config set the port\n`
      )
      continue
    }
    command.setOptionValueWithSource(setting.attribute, setting.fromText(text, setting.variable), 'env')
  }
  const given: unknown = command.getOptionValue('config')
  const path = typeof given === 'string' ? given : environment.EDGESHARD_CONFIG
  if (path === undefined || path === '') return
  const hasKey = settings.some(
    setting => KEY_SETTINGS.includes(setting.name) && (isSaid(setting) || variable(setting) !== undefined)
  )
  for (const [name, value] of Object.entries(await objectOf(path))) {
    if (name === '$schema') continue
    const setting = settings.find(candidate => candidate.name === name)
    if (setting === undefined) throw unknownKey(path, name, settings)
    const set = setting.fromJson(value, `${path}: ${name}`)
    if (isSaid(setting) || (hasKey && KEY_SETTINGS.includes(name))) continue
    command.setOptionValueWithSource(setting.attribute, set, 'config')
  }
}

function unknownKey(path: string, name: string, settings: readonly Setting[]): InputError {
  const shown = name.slice(0, 100)
  const meant = settings.find(setting => isNear(name, setting.name))
  const advice =
    meant === undefined
      ? `there are ${settings.map(setting => setting.name).join(', ')}`
      : `is "${meant.name}" meant?`
  return new InputError(`${path}: there is no option "${shown}"; ${advice}`)
}

async function objectOf(path: string): Promise<Record<string, unknown>> {
  const text = await readFile(path, 'utf8').catch(error => {
    throw new InputError(`the configuration cannot be read: ${(error as Error).message}`, { cause: error })
  })
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new InputError(`${path} is no JSON: ${(error as Error).message}`, { cause: error })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InputError(`${path}: one object of options is expected`)
  }
  return value as Record<string, unknown>
}
