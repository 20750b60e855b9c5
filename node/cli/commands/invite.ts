import { Command } from 'commander'
import { renderUnicodeCompact } from 'uqr'
import { NoNodeError } from '../../client/index.ts'
import { inviteAtRest } from '../../mesh/at-rest.ts'
import { TICKET_TTL_MS } from '../../mesh/ticket.ts'
import { runningNode } from '../api-client.ts'
import { homeDir, withHome } from '../home.ts'

interface InviteOptions {
  home?: string
  api?: string
  json?: boolean
}

/** `edgeshard invite`: a ticket for the next device. */
export function inviteCommand(): Command {
  return new Command('invite')
    .description(
      'Print a ticket, in a terminal also as a QR code, that lets one other device join this mesh while this one is up. Hand it only to a device of your own.'
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--api <url>', 'node to ask instead of the one that runs here')
    .option('--json', 'one JSON document on stdout')
    .action(invite)
}

async function invite(options: InviteOptions): Promise<void> {
  const { ticket, addressed } = await makeTicket(options)
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ ticket })}\n`)
    return
  }
  process.stdout.write(`${ticket}\n`)
  if (process.stdout.isTTY) process.stdout.write(`\n${renderUnicodeCompact(ticket)}\n\n`)
  if (!process.stderr.isTTY && addressed) return
  const minutes = Math.round(TICKET_TTL_MS / 60_000)
  process.stderr.write(
    `On the other device, within ${minutes} minutes: edgeshard join TICKET, then edgeshard up. It admits one device.\n`
  )
  if (!addressed) {
    process.stderr.write(
      `No node runs here: start it with '${withHome('edgeshard up', homeDir(options.home))}' before the other device joins, since it admits that one. The ticket has no addresses, so the two must find each other by mDNS.\n`
    )
  }
}

/** A ticket from the node that runs here, which knows its addresses; else one that it takes when it runs. */
async function makeTicket(options: InviteOptions): Promise<{ ticket: string; addressed: boolean }> {
  const home = homeDir(options.home)
  try {
    const ticket = await (await runningNode({ home, api: options.api })).invite()
    return { ticket, addressed: true }
  } catch (error) {
    if (options.api !== undefined || !(error instanceof NoNodeError)) throw error
    return { ticket: await inviteAtRest(home), addressed: false }
  }
}
