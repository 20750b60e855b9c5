import { Command } from 'commander'
import { lockHome } from '../../home-lock.ts'
import { devicesLeft, joinMesh } from '../../mesh/join.ts'
import { readCode } from '../../mesh/pair.ts'
import { decodeTicket, MAX_TICKET_CHARS, type Ticket } from '../../mesh/ticket.ts'
import { counted } from '../../units.ts'
import { confirmed } from '../confirm.ts'
import { InputError } from '../errors.ts'
import { homeDir, withHome } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { ticketByPairing } from '../nearby-mesh.ts'

interface JoinOptions {
  home?: string
  peer?: string
  yes?: boolean
  json?: boolean
}

/** `edgeshard join`: from the next start on, this device's node belongs to another mesh. */
export function joinCommand(): Command {
  return new Command('join')
    .description(
      'Join a mesh: with a ticket, or, while `edgeshard pair` runs on a device of it, with the six digits that it shows; without either, the meshes nearby that accept are listed. The node of that device admits this one, so it must be up; the node of this device must not be running. A device is in one mesh: a terminal is asked before it leaves others.'
    )
    .argument(
      '[ticket...]',
      "what 'edgeshard invite' printed, white space and all, or six digits; -, or none where nobody types, reads it from stdin"
    )
    .option(
      '--peer <address>',
      "HOST:PORT that 'edgeshard pair' printed, where the two do not find each other"
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--yes', 'do not ask, though this device leaves a mesh that has other devices')
    .option('--json', 'one JSON document on stdout')
    .action(join)
}

async function join(words: string[], options: JoinOptions): Promise<void> {
  const home = homeDir(options.home)
  const text = await givenText(words)
  const code = text === undefined ? undefined : readCode(text)
  const given = text === undefined || code !== undefined ? undefined : parse(text)
  if (given !== undefined && options.peer !== undefined)
    throw new InputError('a ticket says where its device is: --peer goes with the six digits')
  const unlock = await lockHome(home)
  const { signal, dispose } = interruptSignal()
  try {
    const ticket = given ?? (await ticketByPairing({ home, peer: options.peer, code, signal }))
    if (!(await mayLeave(home, ticket, { ...options, signal }))) {
      process.stderr.write('This device stays in its mesh.\n')
      return
    }
    const outcome = await joinMesh(home, ticket, { signal })
    if (options.json === true) {
      process.stdout.write(`${JSON.stringify({ outcome, addresses: ticket.addresses })}\n`)
      return
    }
    const said = {
      joined: 'Joined the mesh.',
      replaced: 'Joined the mesh. This device has left the one it belonged to before.',
      unchanged: 'This device already belongs to that mesh; its secret and addresses are noted.'
    }[outcome]
    process.stdout.write(`${said} Start the node with: ${withHome('edgeshard up', home)}\n`)
  } finally {
    dispose()
    await unlock()
  }
}

/**
 * Asks where the device leaves others, who let it in again only by a ticket of their own. Where nobody can be asked that is said, and
 * done: so scripts move devices.
 */
async function mayLeave(
  home: string,
  { mesh }: Ticket,
  { yes, json, signal }: JoinOptions & { signal: AbortSignal }
): Promise<boolean> {
  const others = await devicesLeft(home, mesh)
  if (others === 0 || yes === true) return true
  const what = `This device belongs to a mesh with ${counted(others, 'other device')}, and leaves it when it joins another one.`
  if (json !== true && process.stdin.isTTY === true) return await confirmed(`${what} Join?`, { signal })
  process.stderr.write(`${what}\n`)
  return true
}

function parse(text: string): Ticket {
  try {
    return decodeTicket(text)
  } catch (error) {
    throw new InputError((error as Error).message, { cause: error })
  }
}

/** A ticket or a code; undefined where a person is there to be asked. */
async function givenText(words: string[]): Promise<string | undefined> {
  const said = words.join(' ')
  if (said !== '' && said !== '-') return said
  if (said === '' && process.stdin.isTTY) return undefined
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > 2 * MAX_TICKET_CHARS) break
  }
  return text
}
