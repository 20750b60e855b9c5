import { basename, extname, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { CheckpointError, ModelNameError, UnsupportedModelError } from '../../models/errors.ts'
import { type ImportOptions, importModel, type QuantizeMode } from '../../models/import/import-model.ts'
import { weightBytes } from '../../models/manifest.ts'
import { isModelName, ModelStore } from '../../models/store/store.ts'
import { InputError } from './errors.ts'
import { homeDir, storeDir } from './home.ts'
import { interruptSignal } from './interrupt.ts'
import { formatBytes } from './models-table.ts'
import { progressBar } from './progress.ts'

interface ImportCommandOptions {
  name?: string
  quantize: QuantizeMode
  block?: number
  home?: string
  json?: boolean
}

/** `edgeshard import`: a checkpoint on this disk becomes a model of the store. */
export function importCommand(): Command {
  return new Command('import')
    .description('Bring a model on this disk into the store: a Hugging Face folder.')
    .argument('<path>', 'folder with config.json, tokenizer.json and safetensors')
    .option('--name <name>', 'what to call it (default: the name of the folder or file)')
    .addOption(
      new Option('--quantize <mode>', 'round projections to blocks of 8 or 4 bits, or keep the own values')
        .choices(['none', 'q8', 'q4'])
        .default('none')
    )
    .addOption(
      new Option('--block <size>', 'weights that share a scale, with --quantize').choices(['32', '64', '128'])
    )
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
  const store = await ModelStore.open(storeDir(homeDir(options.home)))
  const bar = progressBar(`import ${name}`, 'layers')
  const interrupt = interruptSignal()
  try {
    const importing: ImportOptions = {
      name,
      quantize: options.quantize,
      signal: interrupt.signal,
      onProgress: (done, total) => bar.update(done, total),
      ...(options.block === undefined ? {} : { blockSize: Number(options.block) })
    }
    const { id, manifest } = await importModel(resolve(path), store, importing)
    bar.stop()
    const { shape, precision } = manifest
    const bytes = weightBytes(manifest)
    process.stdout.write(
      options.json === true
        ? `${JSON.stringify({ name, id, architecture: shape.architecture, precision, layers: manifest.layers.length, weightBytes: bytes })}\n`
        : `${name}: ${shape.architecture}, ${precision}, ${shape.decoderLayers} decoder layers, ${formatBytes(bytes)}\n`
    )
  } catch (error) {
    throw asInputError(error)
  } finally {
    bar.stop()
    interrupt.dispose()
  }
}

/** What is wrong with the checkpoint is wrong with the input. */
export function asInputError(error: unknown): unknown {
  return error instanceof CheckpointError ||
    error instanceof UnsupportedModelError ||
    error instanceof ModelNameError
    ? new InputError(error.message, { cause: error })
    : error
}

function defaultName(path: string): string {
  const name = basename(resolve(path))
  return extname(name) === '.gguf' ? name.slice(0, -'.gguf'.length) : name
}
