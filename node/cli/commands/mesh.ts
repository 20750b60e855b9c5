import { Command } from 'commander'
import { isPeerId } from '../../../protocols/peer-id.ts'
import type { BanReport, MemberState, MembershipState, PeerName } from '../../api.ts'
import { NoNodeError } from '../../client/index.ts'
import { rotateAtRest } from '../../mesh/at-rest.ts'
import { shortIds, shortNames } from '../../short-names.ts'
import { tableText } from '../../table.ts'
import { runningNode } from '../api-client.ts'
import { confirmed } from '../confirm.ts'
import { InputError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'

interface MeshOptions {
  home?: string
  json?: boolean
}

interface BanOptions extends MeshOptions {
  yes?: boolean
  keep: string[]
}

interface Report {
  reached: PeerName[]
  missed: PeerName[]
}

/** `edgeshard mesh`: who belongs to this mesh, and who may change that. */
export function meshCommand(): Command {
  const mesh = new Command('mesh').description('Show and change who may belong to this mesh.')
  const sub = (name: string, description: string) =>
    mesh
      .command(name)
      .description(description)
      .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
      .option('--json', 'one JSON document on stdout')
      .exitOverride()
  sub('devices', 'List the devices of the mesh: who admitted whom, and who owns it.').action(devices)
  sub(
    'ban <peer>',
    'Keep a device out, by name or id, and every device that only it has let in. For owners of the mesh.'
  )
    .option('--keep <peer>', 'admit a device that would go with it yourself; repeatable', collect, [])
    .option('--yes', 'do not ask')
    .action(ban)
  sub(
    'unban <peer>',
    'Let a device in again, by a name or id that `mesh bans` shows. What it had let in stays out. For owners.'
  ).action(unban)
  sub('bans', 'List the devices that are banned.').action(bans)
  sub('promote <peer>', 'Make a device an owner, for good. For the device that made the mesh.').action(
    promote
  )
  sub(
    'rotate',
    'Change the secret of the mesh, where it has leaked. Devices that are off now need a new ticket. For owners.'
  ).action(rotate)
  return mesh
}

async function devices(options: MeshOptions): Promise<void> {
  const state = await (await runningNode({ home: homeDir(options.home) })).membership()
  process.stdout.write(
    options.json === true ? jsonLine(state) : `${devicesTable(state, process.stdout.columns)}\n`
  )
}

/** @param columns of the terminal; undefined: there is none */
export function devicesTable({ devices }: MembershipState, columns: number | undefined): string {
  const ids = shortIds(devices.map(({ peerId }) => peerId))
  const names = shortNames(devices)
  const rows = devices.map(device => [
    clean(device.name),
    ids.get(device.peerId)!,
    roleOf(device),
    device.admittedBy.map(({ peerId, name }) => names.get(peerId) ?? clean(name)).join(', ')
  ])
  return tableText(['name', 'peer', 'is', 'admitted by'], rows, columns)
}

function roleOf({ self, founder, owner }: MemberState): string {
  const role = founder ? 'owner, made the mesh' : owner ? 'owner' : ''
  return [...(self ? ['this device'] : []), ...(role === '' ? [] : [role])].join('; ')
}

async function rotate(options: MeshOptions): Promise<void> {
  const home = homeDir(options.home)
  try {
    const { reached, missed } = await (await runningNode({ home })).rotate()
    printRotation({ reached, missed }, options)
  } catch (error) {
    if (!(error instanceof NoNodeError)) throw error
    await rotateAtRest(home)
    if (options.json === true) process.stdout.write(`${JSON.stringify({ reached: [], missed: [] })}\n`)
    else
      process.stdout.write(
        'The secret is changed. No node runs here, so every other device needs a new ticket.\n'
      )
  }
}

async function ban(peer: string, options: BanOptions): Promise<void> {
  const node = await runningNode({ home: homeDir(options.home) })
  const state = await node.membership()
  const banned = peerIdOf(peer, state)
  const keep = options.keep.map(kept => peerIdOf(kept, state))
  const device = state.devices.find(({ peerId }) => peerId === banned)
  const others = device?.dependents.filter(({ peerId }) => !keep.includes(peerId)) ?? []
  if (others.length > 0 && options.yes !== true) {
    const ids = shortIds(state.devices.map(({ peerId }) => peerId))
    const who = others.map(({ name, peerId }) => `${clean(name)} (${ids.get(peerId) ?? peerId})`).join(', ')
    const what = `${clean(device!.name)} has let in ${who}, which a ban of it puts out, too`
    if (!(await agreed(what, options))) return
  }
  printBan(await node.ban(banned, { keep }), options)
}

/** Asks where somebody can answer. */
async function agreed(what: string, { json }: MeshOptions): Promise<boolean> {
  if (json === true || process.stdin.isTTY !== true) {
    throw new InputError(`${what}: say --yes to that, or --keep those that shall stay`)
  }
  return await confirmed(`${what}. Ban them all?`)
}

async function promote(peer: string, options: MeshOptions): Promise<void> {
  const node = await runningNode({ home: homeDir(options.home) })
  const peerId = peerIdOf(peer, await node.membership())
  const state = await node.promote(peerId)
  const owners = state.devices.filter(({ owner }) => owner)
  if (options.json === true) process.stdout.write(jsonLine({ owners: owners.map(nameOnly) }))
  else process.stdout.write(`Owners of the mesh: ${owners.map(({ name }) => clean(name)).join(', ')}.\n`)
}

const nameOnly = ({ peerId, name }: PeerName): PeerName => ({ peerId, name })

async function unban(device: string, options: MeshOptions): Promise<void> {
  const node = await runningNode({ home: homeDir(options.home) })
  const { banned } = await node.membership()
  const matches = banned.filter(each => isMeant(device, each))
  if (matches.length > 1)
    throw new InputError(`'${device}' means ${matches.length} banned devices: give the whole peer id`)
  const [match] = matches
  if (match === undefined) {
    throw new InputError(
      `no device '${device}' is banned: give a name or id that 'edgeshard mesh bans' shows`
    )
  }
  await node.unban(match.peerId)
  printBans(await node.membership(), options)
}

async function bans(options: MeshOptions): Promise<void> {
  printBans(await (await runningNode({ home: homeDir(options.home) })).membership(), options)
}

/** Whether a person means a device: by its name, its id or the end of its id. */
function isMeant(device: string, { name, peerId }: PeerName): boolean {
  return name === device || (device !== '' && peerId.endsWith(device))
}

/** The device that a name, an id or the end of an id means; a whole id may be of one that was never seen. */
function peerIdOf(peer: string, { devices, banned }: MembershipState): string {
  const matches = [...devices, ...banned].filter(device => isMeant(peer, device))
  if (matches.length > 1)
    throw new InputError(`'${peer}' means ${matches.length} devices: give the whole peer id`)
  if (matches.length === 0 && !isPeerId(peer)) {
    throw new InputError(
      `no device is called '${peer}': give a name or id that 'edgeshard mesh devices' shows`
    )
  }
  return matches[0]?.peerId ?? peer
}

function collect(value: string, before: string[]): string[] {
  return [...before, value]
}

function printRotation({ reached, missed }: Report, options: MeshOptions): void {
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

function printBan({ out, kept }: BanReport, options: MeshOptions): void {
  if (options.json === true) {
    process.stdout.write(jsonLine({ out, kept }))
    return
  }
  const names = (peers: PeerName[]) => peers.map(({ name }) => clean(name)).join(', ')
  process.stdout.write(`Out of the mesh: ${names(out)}.\n`)
  if (kept.length > 0) process.stdout.write(`Admitted by this device now: ${names(kept)}.\n`)
}

function printBans({ banned }: MembershipState, options: MeshOptions): void {
  if (options.json === true) {
    process.stdout.write(jsonLine({ banned: banned.map(({ peerId }) => peerId) }))
    return
  }
  const lines = banned.map(({ peerId, name }) =>
    peerId.endsWith(name) ? peerId : `${peerId}  ${clean(name)}`
  )
  process.stdout.write(banned.length === 0 ? 'Nobody is banned.\n' : `${lines.join('\n')}\n`)
}
