import { Command } from 'commander'
import { supported } from '../../../models/import/supported.ts'
import type { ModelStore } from '../../../models/store/store.ts'
import { formatBytes } from '../../units.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir, withHome } from '../home.ts'
import { cachedLine, cachedRow, modelRow, modelsTable } from '../models-table.ts'
import { readStore } from '../store.ts'
import { supportedText } from '../supported.ts'

/** `edgeshard models`: what this device's store holds. */
export function modelsCommand(): Command {
  return new Command('models')
    .description(
      'List the models in the store, with their sizes and the layers that are here, and beside them what is cached of the ' +
        "models of others: to compute with, evicted when its place is needed, and nobody's name for anything."
    )
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--verify', 'read every file and compare it with its SHA-256')
    .option('--supported', 'list the families and formats that can be imported instead')
    .option('--json', 'one JSON document on stdout')
    .action(models)
}

async function models(options: {
  home?: string
  verify?: boolean
  supported?: boolean
  json?: boolean
}): Promise<void> {
  if (options.supported === true) {
    const all = supported()
    process.stdout.write(options.json === true ? jsonLine(all) : supportedText(all))
    return
  }
  const home = homeDir(options.home)
  const store = await readStore(home)
  const { rows, cached, diskBytes } =
    store === undefined ? { rows: [], cached: [], diskBytes: 0 } : await listed(store, options)
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ models: rows, cached, diskBytes })}\n`)
    return
  }
  if (rows.length > 0) process.stdout.write(`${modelsTable(rows)}\n`)
  else process.stdout.write(`No models yet. \`${withHome('edgeshard import PATH', home)}\` adds one.\n`)
  for (const row of cached) process.stdout.write(`${cachedLine(row)}\n`)
  if (rows.length + cached.length > 0) process.stdout.write(`${formatBytes(diskBytes)} on disk\n`)
}

/** What is in a store; damaged models are said on stderr. */
async function listed(store: ModelStore, { verify }: { verify?: boolean }) {
  const { models: stored, broken } = await store.scan()
  if (verify === true) for (const model of stored) await store.verify(model)
  const rows = await Promise.all(
    stored.map(async model => modelRow(model, await store.heldLayers(model.manifest)))
  )
  for (const { name, error } of broken)
    process.stderr.write(`edgeshard: ${clean(name)}: ${clean(error.message)}\n`)
  const cached = await Promise.all(
    (await store.cached()).map(async model => cachedRow(model, await store.heldLayers(model.manifest)))
  )
  return { rows, cached, diskBytes: await store.diskBytes() }
}
