import { Command, CommanderError, program } from 'commander'
import { VERSION } from '../version.ts'
import { errorLine, exitStatus } from './errors.ts'
import { clean } from './format.ts'
import './generic-wrappers.ts'
import { started } from './starting.ts'
import { SUMMARIES } from './summaries.ts'
import { sayUsageErrors } from './usage-errors.ts'

/** One file a command, loaded only when it is asked for: `plan --help` needs no libp2p. */
const commands: Record<string, () => Promise<Command>> = {
  up: async () => (await import('./commands/up.ts')).upCommand(),
  run: async () => (await import('./commands/run.ts')).runCommand(),
  chat: async () => (await import('./commands/chat.ts')).chatCommand(),
  peers: async () => (await import('./commands/peers.ts')).peersCommand(),
  models: async () => (await import('./commands/models.ts')).modelsCommand(),
  import: async () => (await import('./commands/import.ts')).importCommand(),
  pull: async () => (await import('./commands/pull.ts')).pullCommand(),
  rm: async () => (await import('./commands/rm.ts')).rmCommand(),
  privacy: async () => (await import('./commands/privacy.ts')).privacyCommand(),
  profile: async () => (await import('./commands/profile.ts')).profileCommand(),
  plan: async () => (await import('./commands/plan.ts')).planCommand(),
  simulate: async () => (await import('./commands/simulate.ts')).simulateCommand(),
  bench: async () => (await import('./commands/bench.ts')).benchCommand(),
  invite: async () => (await import('./commands/invite.ts')).inviteCommand(),
  pair: async () => (await import('./commands/pair.ts')).pairCommand(),
  page: async () => (await import('./commands/page.ts')).pageCommand(),
  mesh: async () => (await import('./commands/mesh.ts')).meshCommand(),
  drain: async () => (await import('./commands/drain.ts')).drainCommand(),
  service: async () => (await import('./commands/service.ts')).serviceCommand(),
  join: async () => (await import('./commands/join.ts')).joinCommand(),
  doctor: async () => (await import('./commands/doctor.ts')).doctorCommand(),
  launch: async () => (await import('./commands/launch.ts')).launchCommand(),
  demo: async () => (await import('./commands/demo.ts')).demoCommand()
}

// Started by the relauncher or the demo: when that process dies, however, its channel closes and this one ends too.
if (process.env.EDGESHARD_TIED === '1' && process.channel !== undefined) {
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
  process.channel?.unref()
}

let unread = false
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  // The output is not read any more (`edgeshard run ... | head`): end as when told to, so that all is stopped.
  unread = true
  process.kill(process.pid, 'SIGTERM')
})

// Logs that are not read any more are no reason to end.
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

program
  .name('edgeshard')
  .description('Runs one large language model over the devices you already have.')
  .version(VERSION)
  .exitOverride()

sayUsageErrors(program, 'edgeshard --help lists the commands')

// What a node logs is for its own options to say; other commands log what they are told to this way.
if (process.env.DEBUG) (await import('../log.ts')).ensureLogs()

const [asked, then] = process.argv.slice(2).filter(word => !word.startsWith('-'))
if (asked !== undefined && Object.hasOwn(commands, asked)) {
  const command = (await commands[asked]!()).exitOverride()
  sayUsageErrors(command, `edgeshard ${asked} --help says what it takes`)
  program.addCommand(command)
} else {
  // The list of commands, or a suggestion for one that is misspelt: none of them is run.
  for (const name of Object.keys(commands)) program.addCommand(await unloaded(name))
  program.configureHelp({ subcommandTerm: command => command.name() })
}

/** A command in a list; `help NAME` shows that one's own. */
async function unloaded(name: string): Promise<Command> {
  return asked === 'help' && then === name
    ? (await commands[name]!()).exitOverride()
    : new Command(name).description(SUMMARIES[name]!)
}

let home: string | undefined
program.hook('preAction', (_, acting) => {
  home = acting.opts<{ home?: string }>().home
})

started()
try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has already printed its line; help and version are no errors.
    process.exitCode = error.exitCode === 0 ? 0 : 2
  } else {
    if (!unread) process.stderr.write(`edgeshard: ${clean(errorLine(error, home))}\n`)
    process.exitCode = exitStatus(error)
  }
}
