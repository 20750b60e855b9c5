import { Command } from 'commander'
import { formatBytes } from '../../units.ts'
import { homeDir } from '../home.ts'
import { openStore } from '../store.ts'

/** `edgeshard rm`: forgets a model and deletes what no other model uses. */
export function rmCommand(): Command {
  return new Command('rm')
    .description('Remove a model from the store; files that another model uses too stay.')
    .argument(
      '<name>',
      'name of the model; of a cached one, which has no name, its id or the first 8 digits of it'
    )
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(async (name: string, options: { home?: string; json?: boolean }) => {
      const store = await openStore(homeDir(options.home))
      const freedBytes = await store.remove(name)
      process.stdout.write(
        options.json === true
          ? `${JSON.stringify({ name, freedBytes })}\n`
          : `${name} is removed, ${formatBytes(freedBytes)} are free again.\n`
      )
    })
}
