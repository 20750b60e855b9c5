import { mkdir, rm } from 'node:fs/promises'
import { basename, join, sep } from 'node:path'
import { Command } from 'commander'
import { type ImportChoices, importModel } from '../../../models/import/import-model.ts'
import { judgeGguf, judgeHuggingFace } from '../../../models/import/judge.ts'
import type { Rounding } from '../../../models/import/rounding.ts'
import { isModelName } from '../../../models/store/catalog.ts'
import { FileLock } from '../../../models/store/lock.ts'
import { type HubOptions, listForImport } from '../../hub/client.ts'
import { downloadFiles, localPath, removeOthers } from '../../hub/download.ts'
import { proxyFromEnvironment } from '../../hub/proxy.ts'
import { remoteParts } from '../../hub/remote-gguf.ts'
import {
  type Choice,
  chooseFiles,
  folderOf,
  parseRepository,
  type RemoteFile,
  type Repository
} from '../../hub/repository.ts'
import { runningNode } from '../api-client.ts'
import { chooserOf } from '../choose-rounding.ts'
import { InputError } from '../errors.ts'
import { clean } from '../format.ts'
import { homeDir } from '../home.ts'
import {
  blockOption,
  mtpOption,
  printImported,
  printNotice,
  quantizeOption,
  type RoundingOptions,
  replacedId,
  rounding
} from '../imported.ts'
import { interruptSignal } from '../interrupt.ts'
import { progressBar } from '../progress.ts'
import { openStore } from '../store.ts'

interface PullOptions extends RoundingOptions {
  name?: string
  file?: string
  home?: string
  json?: boolean
}

/** `edgeshard pull`: a model of the hub becomes a model of the store. */
export function pullCommand(): Command {
  return new Command('pull')
    .description(
      'Download a model from the Hugging Face hub ($HF_ENDPOINT, $HF_TOKEN, by $HTTPS_PROXY where it is set) and import it. ' +
        'Says first when the mesh holds a model of that name.'
    )
    .argument('<repo>', 'owner/name, or owner/name@revision')
    .option(
      '--file <name>',
      'which GGUF file, where the repository has several: [FOLDER/]NAME, or any part of a split one'
    )
    .option('--name <name>', 'what to call it (default: the name of the repository or file)')
    .addOption(quantizeOption())
    .addOption(blockOption())
    .addOption(mtpOption())
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(async (repo: string, options: PullOptions) => {
      const interrupt = interruptSignal()
      try {
        await pull(parseRepository(repo), options, interrupt.signal)
      } finally {
        interrupt.dispose()
      }
    })
}

async function pull(repository: Repository, options: PullOptions, signal: AbortSignal): Promise<void> {
  const name = options.name ?? (options.file && modelName(options.file)) ?? repository.name.split('/')[1]!
  if (!isModelName(name)) {
    throw new InputError(`${JSON.stringify(name)} cannot be a model's name; choose one with --name`)
  }
  const home = homeDir(options.home)
  await sayWhoHolds(home, name)
  const store = await openStore(home)
  using _ = proxyFromEnvironment()
  const hub: HubOptions = { signal, onWait: sayBusy }
  const listed = await listForImport(repository, hub, folderOf(options.file).replace(/\/$/, ''))
  const choice = chooseFiles(repository, listed, options.file)
  const downloads = join(home, 'downloads')
  const dir = join(downloads, repository.name.replace('/', '--'))
  await mkdir(downloads, { recursive: true })
  const lock = FileLock.tryAcquire(`${dir}.lock`)
  if (lock === undefined) throw new InputError(`another process is downloading ${repository.name} already`)
  try {
    const said = { ...rounding(options), ...chooserOf(options, signal), onNotice: printNotice }
    const { chosen, isCostKnown } = await download(repository, choice, dir, hub, said)
    const path = choice.format === 'gguf' ? localPath(dir, choice.files[0]!) : dir
    const replaced = await replacedId(store, name)
    const bar = progressBar(`import ${name}`, 'layers')
    try {
      const stored = await importModel(path, store, {
        name,
        ...said,
        ...chosen,
        isCostKnown,
        signal,
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
  const models = await runningNode({ home })
    .then(node => node.models())
    // Where no node runs nothing is known of the mesh, and nothing need be.
    .catch(() => [])
  for (const held of models.filter(model => model.name === name)) {
    const holders = held.holders.map(holder => clean(holder.name)).join(', ')
    process.stderr.write(
      `edgeshard: the mesh holds a model ${name} already (${held.precision}, on ${holders}): prompts here can use it as it ` +
        'is, and layers come from there; if it is this one, nothing need be downloaded\n'
    )
  }
}

/**
 * Gigabytes that could not be used are not fetched: all that can be judged without them is judged before, and of GGUF models,
 * of which a few rows are enough for it, what they take in the store is said and chosen.
 */
async function download(
  repository: Repository,
  choice: Choice,
  dir: string,
  hub: HubOptions,
  said: ImportChoices
): Promise<{ chosen: Rounding | undefined; isCostKnown: boolean }> {
  let weights: RemoteFile[]
  let chosen: Rounding | undefined
  if (choice.format === 'gguf') {
    weights = choice.files
    chosen = await judgeGguf(weights[0]!.path, remoteParts(repository, weights, hub), said)
  } else {
    await downloadFiles(repository, choice.files, dir, hub)
    const beside = localNames(choice.files)
    await removeOthers(dir, name => beside.has(name) || /\.(safetensors|part)$/.test(name))
    weights = choice.weights(await judgeHuggingFace(dir, said))
  }
  const wanted = localNames([...choice.files, ...weights])
  await mkdir(dir, { recursive: true })
  await removeOthers(dir, name => wanted.has(name) || name.endsWith('.part'))
  const bar = progressBar(`pull ${repository.name}`)
  try {
    await downloadFiles(repository, weights, dir, {
      ...hub,
      onProgress: bar.update
    })
  } finally {
    bar.stop()
  }
  return { chosen, isCostKnown: choice.format === 'gguf' }
}

function localNames(files: readonly RemoteFile[]): Set<string> {
  return new Set(files.map(file => localPath('', file).split(sep)[0]!))
}

/** The name of a GGUF file without folder, ending, and number of a part. */
function modelName(file: string): string {
  return basename(file, '.gguf').replace(/-\d{5}-of-\d{5}$/, '')
}

function sayBusy(status: number, waitMs: number): void {
  process.stderr.write(
    `edgeshard: the hub is busy (${status}): asking again in ${Math.ceil(waitMs / 1000)} s\n`
  )
}
