import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Command } from 'commander'
import { SHA256 } from '../../../models/sha256.ts'
import { isModelName } from '../../../models/store/catalog.ts'
import type { ModelSummary } from '../../api.ts'
import { DEFAULT_MODEL } from '../../constants.ts'
import { thereIs } from '../../there-is.ts'
import { runningNode } from '../api-client.ts'
import { type ApiKeyOptions, addApiKeyOptions, apiKeyOf } from '../api-key.ts'
import { InputError } from '../errors.ts'
import { jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { PROGRAM_NAMES, type ProgramStart, shellLines, startOf } from '../programs.ts'

interface LaunchOptions extends ApiKeyOptions {
  api?: string
  model?: string
  run?: boolean
  home?: string
  json?: boolean
}

/** `edgeshard launch`: another program, told to use this node. */
export function launchCommand(): Command {
  const command = new Command('launch')
    .description(
      `Print what a program has to be told to use the node that runs here, or start it so: ${PROGRAM_NAMES.join(', ')}. ` +
        'Nothing is written to its configuration.'
    )
    .argument('<program>', 'its command')
    .argument('[args...]', 'with --run: arguments for it; options behind --')
    .option('--run', 'start the program with these settings, for this once')
    .option('--model <name>', 'model to use (default: the only one, or the only one beside the bundled one)')
    .option('--api <url>', 'node to use (default: the one that runs on the home)')
  return addApiKeyOptions(command, 'the node')
    .option('--home <dir>', 'whose node to use (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout: command, env and args')
    .action(launch)
}

async function launch(program: string, args: string[], options: LaunchOptions): Promise<void> {
  const { api, run = false, json = false } = options
  if (!PROGRAM_NAMES.includes(program)) {
    throw new InputError(`${program} is not known here; these are: ${PROGRAM_NAMES.join(', ')}`)
  }
  if (!run && args.length > 0) throw new InputError('arguments for the program are of use with --run only')
  if (run && json) throw new InputError('--run starts the program, --json prints how: choose one')
  const node = await runningNode({ ...options, api, home: homeDir(options.home) })
  const apiKey = await apiKeyOf(options)
  const { name: model, contextLength } = chosen(await node.models(), options.model)
  // Names of models that others hold are as these say: no other text stands in lines for a shell, or in settings of a program.
  if (!isModelName(model) && !SHA256.test(model)) {
    throw new InputError(
      `${JSON.stringify(model.slice(0, 100))} is no name of a model; give the id of one with --model`
    )
  }
  const start = startOf(program, { url: node.url, apiKey, model, contextLength })!
  if (run) process.exitCode = await started(start, args)
  else if (json) process.stdout.write(jsonLine(start))
  else {
    const shell = process.platform === 'win32' ? 'powershell' : 'sh'
    process.stdout.write(`${shellLines(start, shell).join('\n')}\n`)
  }
}

/** @throws {InputError} where it is not clear which one is meant */
function chosen(models: readonly ModelSummary[], asked: string | undefined): ModelSummary {
  const names = models.map(({ name }) => name)
  if (asked !== undefined) {
    const found = models.find(({ name, id }) => name === asked || id === asked)
    if (found !== undefined) return { ...found, name: asked }
    throw new InputError(`no device of the mesh holds a model called ${asked}; ${thereIs(names)}`)
  }
  const own = models.filter(({ name }) => name !== DEFAULT_MODEL)
  const [only, ...others] = own.length > 0 ? own : models
  if (only !== undefined && others.length === 0) return only
  throw new InputError(
    `choose a model with --model: ${names.join(', ') || 'there is none, bring one with edgeshard pull'}`
  )
}

/** The program's exit status, when it has ended. @throws {InputError} where it cannot be started */
async function started({ command, env, args }: ProgramStart, more: string[]): Promise<number> {
  const child = spawn(command, [...args, ...more], { env: { ...process.env, ...env }, stdio: 'inherit' })
  // Ctrl-C in a terminal reaches both: when to end is the program's to say.
  const wait = () => undefined
  process.on('SIGINT', wait)
  try {
    const [status] = (await once(child, 'exit')) as [number | null]
    return status ?? 1
  } catch (error) {
    throw new InputError(`${command} cannot be started: ${(error as Error).message}; is it installed?`, {
      cause: error
    })
  } finally {
    process.off('SIGINT', wait)
  }
}
