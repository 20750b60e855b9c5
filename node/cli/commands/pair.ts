import { setTimeout as delay } from 'node:timers/promises'
import { Command } from 'commander'
import type { PairingState } from '../../api.ts'
import type { Client } from '../../client/index.ts'
import { hostAndPort } from '../../mesh/contacts.ts'
import { PairingError } from '../../mesh/errors.ts'
import { shortId } from '../../short-names.ts'
import { runningNode } from '../api-client.ts'
import { jsonLine } from '../format.ts'
import { homeDir, withHome } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'

interface PairOptions {
  home?: string
  json?: boolean
}

type Opened = Extract<PairingState, { open: true }>
type Closed = Extract<PairingState, { open: false }>

const POLL_MS = 500
/** Empties the line of a terminal. */
const CLEAR = '\r\u001b[K'

/** `edgeshard pair`: shows a code, and waits for the device on which it is typed. */
export function pairCommand(): Command {
  return new Command('pair')
    .description(
      'Show six digits that let one other device join this mesh: type them there after `edgeshard join`. For two minutes and three tries, while the node of this device runs.'
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON event a line on stdout')
    .action(pair)
}

async function pair(options: PairOptions): Promise<void> {
  const home = homeDir(options.home)
  const node = await runningNode({ home })
  const { signal, dispose } = interruptSignal()
  try {
    const opened = await node.openPairing({ signal })
    if (!opened.open) throw new PairingError('pairing was closed at once: somebody else has closed it')
    if (options.json === true) process.stdout.write(jsonLine({ event: 'open', ...withoutOpen(opened) }))
    else process.stdout.write(invitation(opened))
    const closed = await ended(node, opened, { signal, shows: options.json !== true })
    if (options.json === true) process.stdout.write(jsonLine({ event: 'end', ...withoutOpen(closed) }))
    if (closed.end !== 'paired') throw new PairingError(whyNot(closed, withHome('edgeshard pair', home)))
    if (options.json !== true)
      process.stdout.write(
        `Paired: the device ${closed.device && shortId(closed.device)}${whence(closed)} has a ticket of its own and joins.\n`
      )
  } catch (error) {
    // Whoever showed the code is not there any more.
    if (signal.aborted) await node.closePairing()
    throw error
  } finally {
    dispose()
  }
}

function withoutOpen<S extends PairingState>({ open: _, ...state }: S): Omit<S, 'open'> {
  return state
}

function invitation({ code, addresses }: Opened): string {
  const at = addresses.map(hostAndPort)
  return (
    `Code: ${code.slice(0, 3)} ${code.slice(3)}\n` +
    `On the other device, within two minutes: edgeshard join, then these six digits.\n` +
    `It finds this one as ${at.join(', ')}, or is told: edgeshard join --peer ${at[0]}\n`
  )
}

/** Waits for the end of what was opened; where somebody else has opened it anew, this code is closed. */
async function ended(
  node: Client,
  opened: Opened,
  { signal, shows }: { signal: AbortSignal; shows: boolean }
): Promise<Closed> {
  const isLive = shows && process.stderr.isTTY
  let tries = opened.triesLeft
  try {
    for (;;) {
      await delay(POLL_MS, undefined, { signal })
      const state = await node.pairing({ signal })
      if (!state.open) return state
      if (state.code !== opened.code) return { open: false, end: 'closed' }
      if (shows && state.triesLeft < tries) {
        const { triesLeft } = state
        process.stderr.write(
          `${isLive ? CLEAR : ''}Somebody${whence(state)} typed other digits; ${triesLeft === 1 ? 'one more try is' : `${triesLeft} tries are`} left.\n`
        )
      }
      tries = state.triesLeft
      if (isLive)
        process.stderr.write(
          `\r${timeOf(state.leftMs)} left, ${state.triesLeft === 1 ? 'one try' : `${state.triesLeft} tries`} `
        )
    }
  } finally {
    if (isLive) process.stderr.write(CLEAR)
  }
}

/** The address of a caller, where that is known. */
function whence({ from }: PairingState): string {
  return from === undefined ? '' : ` at ${from}`
}

function timeOf(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}

/** @param again what shows a new code */
function whyNot({ end, device }: Closed, again: string): string {
  if (end === 'failed')
    return `the device ${device && shortId(device)} showed the code, but no ticket could be made for it: the node says why. '${again}' shows a new code`
  if (end === 'expired') return `the two minutes are over: '${again}' shows a new code`
  if (end === 'tries')
    return `three wrong codes were shown, or many callers came, so that this code is closed: '${again}' shows another one. Where nobody mistyped, somebody guesses: 'edgeshard invite' makes a ticket instead`
  return 'pairing was closed'
}
