import { basename, extname, resolve } from 'node:path'
import { Command } from 'commander'
import { importModel } from '../../../models/import/import-model.ts'
import { isModelName } from '../../../models/store/catalog.ts'
import { chooserOf } from '../choose-rounding.ts'
import { InputError } from '../errors.ts'
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

interface ImportCommandOptions extends RoundingOptions {
  name?: string
  home?: string
  json?: boolean
}

/** `edgeshard import`: a checkpoint on this disk becomes a model of the store. */
export function importCommand(): Command {
  return new Command('import')
    .description('Bring a model on this disk into the store: a Hugging Face folder or a GGUF file.')
    .argument('<path>', 'folder with config.json, tokenizer.json and safetensors, or a .gguf file')
    .option('--name <name>', 'what to call it (default: the name of the folder or file)')
    .addOption(quantizeOption())
    .addOption(blockOption())
    .addOption(mtpOption())
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(async (path: string, options: ImportCommandOptions) => {
      await importPath(path, options)
    })
}

async function importPath(path: string, options: ImportCommandOptions): Promise<void> {
  const name = options.name ?? defaultName(path)
  if (!isModelName(name)) {
    throw new InputError(`${JSON.stringify(name)} cannot be a model's name; choose one with --name`)
  }
  const store = await openStore(homeDir(options.home))
  const replaced = await replacedId(store, name)
  const bar = progressBar(`import ${name}`, 'layers')
  const interrupt = interruptSignal()
  try {
    const stored = await importModel(resolve(path), store, {
      name,
      ...rounding(options),
      ...chooserOf(options, interrupt.signal),
      signal: interrupt.signal,
      onNotice: printNotice,
      onProgress: (done, total) => bar.update(done, total)
    })
    bar.stop()
    printImported(stored, replaced, options.json === true)
  } finally {
    bar.stop()
    interrupt.dispose()
  }
}

function defaultName(path: string): string {
  const name = basename(resolve(path))
  return extname(name) === '.gguf' ? name.slice(0, -'.gguf'.length) : name
}
