import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Command } from 'commander'
import { checkHuggingFaceConfig } from '../../../models/import/hugging-face.ts'
import { importModel } from '../../../models/import/import-model.ts'
import { isModelName } from '../../../models/store/catalog.ts'
import { FileLock } from '../../../models/store/lock.ts'
import { ModelStore } from '../../../models/store/store.ts'
import type { ModelSummary } from '../../api.ts'
import { listRepository } from '../../hub/client.ts'
import { downloadFiles } from '../../hub/download.ts'
import { chooseFiles, parseRepository, type RemoteFile, type Repository } from '../../hub/repository.ts'
import { InputError } from '../errors.ts'
import { clean } from '../format.ts'
import { homeDir, storeDir } from '../home.ts'
import {
  asInputError,
  blockOption,
  printImported,
  printNotice,
  quantizeOption,
  type RoundingOptions,
  replacedId,
  rounding
} from '../imported.ts'
import { interruptSignal } from '../interrupt.ts'
import { askNode } from '../node-api.ts'
import { progressBar } from '../progress.ts'

interface PullOptions extends RoundingOptions {
  name?: string
  file?: string
  home?: string
  json?: boolean
}

const MIB = 2 ** 20

/** `edgeshard pull`: a model of the hub becomes a model of the store. */
export function pullCommand(): Command {
  return new Command('pull')
    .description(
      'Download a model from the Hugging Face hub ($HF_ENDPOINT, $HF_TOKEN) and import it. Says first when the mesh holds a ' +
        'model of that name.'
    )
    .argument('<repo>', 'owner/name, or owner/name@revision')
    .option('--file <name>', 'which GGUF file, where the repository has several')
    .option('--name <name>', 'what to call it (default: the name of the repository or file)')
    .addOption(quantizeOption())
    .addOption(blockOption())
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(async (repo: string, options: PullOptions) => {
      const interrupt = interruptSignal()
      try {
        await pull(parseRepository(repo), options, interrupt.signal)
      } catch (error) {
        throw asInputError(error)
      } finally {
        interrupt.dispose()
      }
    })
}

async function pull(repository: Repository, options: PullOptions, signal: AbortSignal): Promise<void> {
  const name = options.name ?? options.file?.replace(/\.gguf$/, '') ?? repository.name.split('/')[1]!
  if (!isModelName(name)) {
    throw new InputError(`${JSON.stringify(name)} cannot be a model's name; choose one with --name`)
  }
  const home = homeDir(options.home)
  await sayWhoHolds(home, name)
  const store = await ModelStore.open(storeDir(home))
  const files = chooseFiles(repository, await listRepository(repository, { signal }), options.file)
  const downloads = join(home, 'downloads')
  const dir = join(downloads, repository.name.replace('/', '--'))
  await mkdir(downloads, { recursive: true })
  const lock = FileLock.tryAcquire(`${dir}.lock`)
  if (lock === undefined) throw new InputError(`another process is downloading ${repository.name} already`)
  try {
    await download(repository, files, dir, signal)
    const gguf = files.find(file => file.path.endsWith('.gguf'))
    const replaced = await replacedId(store, name)
    const bar = progressBar(`import ${name}`, 'layers')
    try {
      const stored = await importModel(gguf === undefined ? dir : join(dir, gguf.path), store, {
        name,
        ...rounding(options),
        signal,
        onNotice: printNotice,
        onProgress: (done, total) => bar.update(done, total)
      })
      bar.stop()
      printImported(stored, replaced, options.json === true)
    } finally {
      bar.stop()
    }
    await rm(dir, { recursive: true, force: true })
  } finally {
    lock.release()
  }
}

/**
 * Devices get layers from each other by their SHA-256, so that a model need come over the outside link only once. Its
 * name is all that can be compared before it is downloaded: whether it is the same one is for the user to know.
 */
async function sayWhoHolds(home: string, name: string): Promise<void> {
  const answer = await askNode({ home }, '/api/models').catch(() => undefined)
  const held = (answer as { models: ModelSummary[] } | undefined)?.models.find(model => model.name === name)
  if (held === undefined) return
  const holders = held.holders.map(holder => clean(holder.name)).join(', ')
  process.stderr.write(
    `edgeshard: the mesh holds a model ${name} already (${held.precision}, on ${holders}): prompts here can use it as it ` +
      'is, and layers come from there; if it is this one, nothing need be downloaded\n'
  )
}

async function download(
  repository: Repository,
  files: RemoteFile[],
  dir: string,
  signal: AbortSignal
): Promise<void> {
  const config = files.filter(file => file.path === 'config.json')
  await downloadFiles(repository, config, dir, { signal })
  // Gigabytes that could not be used are not fetched.
  if (config.length > 0) await checkHuggingFaceConfig(dir)
  const bar = progressBar(`pull ${repository.name}`, 'MiB')
  try {
    await downloadFiles(repository, files, dir, {
      signal,
      onProgress: (done, total) => bar.update(Math.floor(done / MIB), Math.ceil(total / MIB))
    })
  } finally {
    bar.stop()
  }
}
