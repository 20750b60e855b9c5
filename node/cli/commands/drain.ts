import { Command } from 'commander'
import type { DrainState } from '../../api.ts'
import { type Client, NoNodeError } from '../../client/index.ts'
import { delay } from '../../delay.ts'
import { counted } from '../../units.ts'
import { runningNode } from '../api-client.ts'
import { DrainUnfinishedError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir, withHome } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { durationOption } from '../options.ts'

interface DrainOptions {
  home?: string
  api?: string
  stay?: boolean
  undo?: boolean
  within?: number
  json?: boolean
}

/** How often the node is asked how far it is. */
const ASK_MS = 250

/** `edgeshard drain`: takes the node that runs here out of the mesh without cutting an answer. */
export function drainCommand(): Command {
  return new Command('drain')
    .description(
      'Take the node that runs here out of the mesh: no new prompts, what others compute on it goes to other devices or to its end, then it leaves.'
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--api <url>', 'address of that node, where it is not the one that it has noted in its home')
    .option('--stay', 'keep the node running when nothing runs on it any more, until --undo or a restart')
    .option('--undo', 'take a drain back: the node is of use again')
    .option(
      '--within <time>',
      'wait no longer than this, such as 10m; the node goes on being drained (default: as long as it takes)',
      durationOption
    )
    .option('--json', 'one JSON document a line on stdout: what still runs, whenever that changes')
    .action(drain)
}

async function drain(options: DrainOptions): Promise<void> {
  const { stay = false, undo = false, within } = options
  const home = homeDir(options.home)
  const node = await runningNode({ home, api: options.api })
  const say = sayer(options.json === true)
  if (undo) return say(await node.undrain(), 'The node is of use again.')
  const { signal: interrupted, dispose } = interruptSignal()
  const late = new AbortController()
  const timer = within === undefined ? undefined : setTimeout(() => late.abort(), within)
  try {
    const begun = await node.drain({ leave: !stay, signal: interrupted })
    if (begun.onlyHere.length > 0) {
      const names = begun.onlyHere.map(clean).join(', ')
      process.stderr.write(
        `edgeshard: only this device has all of ${names}: the mesh cannot answer with it while the device is away\n`
      )
    }
    await follow(node, begun, {
      ...{ stay, say, interrupted, late: late.signal },
      again: withHome('edgeshard drain --undo', home)
    })
  } finally {
    clearTimeout(timer)
    dispose()
  }
}

/** Says what still runs until nothing does, and, unless it stays, the node is gone. */
async function follow(
  node: Client,
  begun: DrainState,
  {
    stay,
    say,
    interrupted,
    late,
    again
  }: {
    stay: boolean
    say: (state: DrainState, line: string) => void
    interrupted: AbortSignal
    late: AbortSignal
    /** What takes the drain back. */
    again: string
  }
): Promise<void> {
  let said = ''
  for (let state: DrainState | undefined = begun; state !== undefined; ) {
    const line = lineOf(state)
    if (line !== said) say(state, line)
    said = line
    if (!state.draining) throw new DrainUnfinishedError('the drain was taken back')
    if (stay && isOver(state)) return
    if (late.aborted) throw new DrainUnfinishedError(`${line}; the node goes on being drained, see ${again}`)
    await delay(ASK_MS, interrupted)
    state = await node.draining({ signal: interrupted }).catch(error => {
      if (!(error instanceof NoNodeError) || stay) throw error
      return undefined
    })
  }
  say({ ...begun, answers: 0, sessions: 0, sources: [] }, 'The node has left.')
}

function isOver({ answers, sessions, sources }: DrainState): boolean {
  return answers + sessions + sources.length === 0
}

function lineOf({ draining, answers, sessions, sources, ...rest }: DrainState): string {
  if (!draining) return 'The node is not being drained.'
  if (isOver({ draining, answers, sessions, sources, ...rest })) return 'Nothing runs on the node any more.'
  const names = sources.map(({ name }) => clean(name)).join(', ')
  const parts = [
    ...(answers > 0 ? [`${answers} of its own answers`] : []),
    ...(sessions > 0 ? [`${counted(sessions, 'session')} of others`] : []),
    ...(sources.length > 0 ? [`leases of ${names}`] : [])
  ]
  return `Draining: ${parts.join(', ')}`
}

function sayer(json: boolean): (state: DrainState, line: string) => void {
  return (state, line) => void process.stdout.write(json ? jsonLine(state) : `${line}\n`)
}
