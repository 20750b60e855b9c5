import { Command } from 'commander'
import type { MeshState } from '../../api.ts'
import { formatBytes } from '../../units.ts'
import { runningNode } from '../api-client.ts'
import { confirmed } from '../confirm.ts'
import { ModelInUseError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { openStore } from '../store.ts'

interface RmOptions {
  home?: string
  yes?: boolean
  json?: boolean
}

/** `edgeshard rm`: forgets a model and deletes what no other model uses. */
export function rmCommand(): Command {
  return new Command('rm')
    .description('Remove a model from the store; files that another model uses too stay.')
    .argument(
      '<name>',
      'name of the model; of a cached one, which has no name, its id or the first 8 digits of it'
    )
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--yes', 'do not ask, though the node that runs here has the model loaded')
    .option('--json', 'one JSON document on stdout')
    .action(rm)
}

async function rm(name: string, options: RmOptions): Promise<void> {
  const home = homeDir(options.home)
  const store = await openStore(home)
  if (options.yes !== true) {
    const use = usedFor(await store.idOf(name), await meshOf(home))
    if (use !== undefined && !(await mayRemove(`${clean(name)} is in use: ${use}`, options))) {
      process.stderr.write(`${clean(name)} stays.\n`)
      return
    }
  }
  const freedBytes = await store.remove(name)
  process.stdout.write(
    options.json === true
      ? jsonLine({ name, freedBytes })
      : `${clean(name)} is removed, ${formatBytes(freedBytes)} are free again.\n`
  )
}

/** @throws {ModelInUseError} where nobody can be asked */
async function mayRemove(what: string, { json }: RmOptions): Promise<boolean> {
  if (json === true || process.stdin.isTTY !== true)
    throw new ModelInUseError(`${what}; --yes removes it all the same`)
  return await confirmed(`${what}. Remove it?`)
}

/** The mesh as the node of this home sees it, undefined where none runs: then nothing is in use. */
async function meshOf(home: string): Promise<MeshState | undefined> {
  try {
    return await (await runningNode({ home })).mesh()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'no_node') return undefined
    throw error
  }
}

/** What the node has a model loaded for, undefined where it has not. */
export function usedFor(id: string | undefined, mesh: MeshState | undefined): string | undefined {
  if (id === undefined || mesh === undefined) return undefined
  const placed = mesh.deployments.filter(({ modelId }) => modelId === id)
  const leased = mesh.leases.filter(({ modelId, source }) => modelId === id && source !== mesh.self.peerId)
  const fetched = mesh.fetches.filter(({ modelId }) => modelId === id)
  const sessions = [...placed, ...leased].reduce((sum, one) => sum + one.sessions, 0)
  const uses = [
    ...(placed.length > 0 ? ['the node that runs here has it loaded'] : []),
    ...(leased.length > 0
      ? [`layers of it are loaded for ${leased.length === 1 ? 'another device' : 'other devices'}`]
      : []),
    ...(fetched.length > 0 ? ['weights of it are on their way'] : []),
    ...(sessions > 0 ? [`${sessions} ${sessions === 1 ? 'answer is' : 'answers are'} under way`] : [])
  ]
  return uses.length === 0 ? undefined : uses.join(', ')
}
