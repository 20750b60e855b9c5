import { Command } from 'commander'
import { isPeerId } from '../../../protocols/peer-id.ts'
import type { PeerName } from '../../api.ts'
import { NoNodeError } from '../../client/index.ts'
import { lockHome } from '../../home-lock.ts'
import { loadMembership, newSecret, saveMembership } from '../../mesh/membership.ts'
import { runningNode } from '../api-client.ts'
import { InputError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'

interface MeshOptions {
  home?: string
  json?: boolean
}

interface Report {
  reached: PeerName[]
  missed: PeerName[]
}

/** `edgeshard mesh`: lets devices into this mesh and keeps them out. */
export function meshCommand(): Command {
  const mesh = new Command('mesh').description('Change who may belong to this mesh.')
  const sub = (name: string, description: string) =>
    mesh
      .command(name)
      .description(description)
      .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
      .option('--json', 'one JSON document on stdout')
      .exitOverride()
  sub('rotate', 'Change the secret of the mesh. Devices that are off now need a new ticket.').action(rotate)
  sub('ban <peer>', 'Cut a device off, by name or id, and change the secret so that it stays out.').action(
    ban
  )
  sub(
    'unban <id>',
    "Take a device off the mesh's ban list, by the id that `mesh bans` shows. It needs a new ticket to come back."
  ).action(unban)
  sub('bans', 'List the devices that are banned.').action(bans)
  return mesh
}

async function rotate(options: MeshOptions): Promise<void> {
  const home = homeDir(options.home)
  try {
    print(await (await runningNode({ home })).rotate(), options)
  } catch (error) {
    if (!(error instanceof NoNodeError)) throw error
    await rotateOnDisk(home)
    if (options.json === true) process.stdout.write(`${JSON.stringify({ reached: [], missed: [] })}\n`)
    else
      process.stdout.write(
        'The secret is changed. No node runs here, so every other device needs a new ticket.\n'
      )
  }
}

async function ban(peer: string, options: MeshOptions): Promise<void> {
  const home = homeDir(options.home)
  const node = await runningNode({ home })
  const { peers } = await node.mesh()
  const matches = peers.filter(
    ({ name, peerId }) => name === peer || peerId === peer || peerId.endsWith(peer)
  )
  if (matches.length > 1)
    throw new InputError(`'${peer}' means ${matches.length} devices: give the whole peer id`)
  const peerId = matches[0]?.peerId ?? peer
  if (matches.length === 0 && !isPeerId(peer)) {
    throw new InputError(`no device is called '${peer}': give a name or id that 'edgeshard peers' shows`)
  }
  print(await node.rotate({ ban: peerId }), options)
}

async function unban(id: string, options: MeshOptions): Promise<void> {
  const node = await runningNode({ home: homeDir(options.home) })
  const matches = (await node.bans()).filter(peerId => id !== '' && peerId.endsWith(id))
  if (matches.length > 1)
    throw new InputError(`'${id}' means ${matches.length} banned devices: give the whole peer id`)
  const [peerId] = matches
  if (peerId === undefined) {
    throw new InputError(`no device '${id}' is banned: give an id that 'edgeshard mesh bans' shows`)
  }
  printBans(await node.unban(peerId), options)
}

async function bans(options: MeshOptions): Promise<void> {
  printBans(await (await runningNode({ home: homeDir(options.home) })).bans(), options)
}

async function rotateOnDisk(home: string): Promise<void> {
  const unlock = await lockHome(home)
  try {
    const membership = await loadMembership(home)
    await saveMembership(home, { ...membership, secret: newSecret(), epoch: membership.epoch + 1 })
  } finally {
    await unlock()
  }
}

function print({ reached, missed }: Report, options: MeshOptions): void {
  if (options.json === true) {
    process.stdout.write(jsonLine({ reached, missed }))
    return
  }
  const names = (peers: PeerName[]) => peers.map(({ name }) => clean(name)).join(', ')
  process.stdout.write(
    `The secret is changed. ${reached.length === 0 ? 'Nobody else' : names(reached)} has the new one.\n`
  )
  if (missed.length > 0) process.stdout.write(`Cut off until joined with a new ticket: ${names(missed)}\n`)
}

function printBans(banned: string[], options: MeshOptions): void {
  if (options.json === true) process.stdout.write(`${JSON.stringify({ banned })}\n`)
  else process.stdout.write(banned.length === 0 ? 'Nobody is banned.\n' : `${banned.join('\n')}\n`)
}
