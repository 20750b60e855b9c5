import { Command } from 'commander'
import { lockHome } from '../../home-lock.ts'
import { joinMesh } from '../../mesh/join.ts'
import { decodeTicket, MAX_TICKET_CHARS, type Ticket } from '../../mesh/ticket.ts'
import { InputError } from '../errors.ts'
import { homeDir } from '../home.ts'

interface JoinOptions {
  home?: string
  json?: boolean
}

/** `edgeshard join TICKET`: from the next start on, this device's node belongs to the ticket's mesh. */
export function joinCommand(): Command {
  return new Command('join')
    .description(
      'Join the mesh that a ticket is from. The node of the device that made it admits this one, so it must be up; the node of this device must not be running.'
    )
    .argument(
      '[ticket...]',
      "what 'edgeshard invite' printed, in one piece or several; - or none reads it from stdin"
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(join)
}

async function join(pieces: string[], options: JoinOptions): Promise<void> {
  const home = homeDir(options.home)
  const ticket = parse(await ticketText(pieces))
  const unlock = await lockHome(home)
  try {
    const outcome = await joinMesh(home, ticket)
    if (options.json === true) {
      process.stdout.write(`${JSON.stringify({ outcome, addresses: ticket.addresses })}\n`)
      return
    }
    const said = {
      joined: 'Joined the mesh.',
      replaced: 'Joined the mesh. This device has left the one it belonged to before.',
      unchanged: 'This device already belongs to that mesh; its secret and addresses are noted.'
    }[outcome]
    process.stdout.write(`${said} Start the node with: edgeshard up\n`)
  } finally {
    await unlock()
  }
}

function parse(text: string): Ticket {
  try {
    return decodeTicket(text)
  } catch (error) {
    throw new InputError((error as Error).message, { cause: error })
  }
}

async function ticketText(pieces: string[]): Promise<string> {
  // A shell hands on what was pasted with spaces in pieces.
  if (pieces.length > 0 && pieces[0] !== '-') return pieces.join('')
  if (pieces.length === 0 && process.stdin.isTTY) {
    throw new InputError(
      "give a ticket: edgeshard join TICKET, or pipe what 'edgeshard invite' printed into it"
    )
  }
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > 2 * MAX_TICKET_CHARS) break
  }
  return text
}
