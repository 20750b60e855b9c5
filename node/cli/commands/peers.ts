import { Command } from 'commander'
import type { MeshState, NodeRecord, PeerState, UnreachedPeer } from '../../api.ts'
import { isNamed } from '../../mesh/peers.ts'
import { shortId, shortIds, shortNames } from '../../short-names.ts'
import { fitted, tableText } from '../../table.ts'
import { formatBytes, formatMbps, formatMs } from '../../units.ts'
import { runningNode } from '../api-client.ts'
import { type ApiKeyOptions, addApiKeyOptions } from '../api-key.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { isIdle } from '../idle-leases.ts'
import { Waiting } from '../waiting.ts'

type Peer = MeshState['peers'][number]
type Row = Pick<NodeRecord, 'peerId' | 'name' | 'models' | 'leases'>

interface PeersOptions extends ApiKeyOptions {
  home?: string
  api?: string
  links?: boolean
  json?: boolean
}

/** `edgeshard peers`: the devices of the mesh, as the node that runs here sees it. */
export function peersCommand(): Command {
  const command = new Command('peers')
    .description(
      'List the devices of the mesh: who is connected, how far away, what they offer, and whose layers they hold.'
    )
    .option('--home <dir>', 'home of the node to ask (default: $EDGESHARD_HOME, else the data directory)')
    .option('--api <url>', 'node to ask instead of the one that runs here')
    .option(
      '--links',
      'the links instead: from the row to the column, and the round trip; (seen) in traffic, (busy) when measured'
    )
    .option('--json', 'one JSON document on stdout')
    .action(peers)
  return addApiKeyOptions(command, 'that node')
}

async function peers(options: PeersOptions): Promise<void> {
  const home = homeDir(options.home)
  const waiting = new Waiting()
  const node = await runningNode({ ...options, home, waiting })
  const state = await node.mesh().finally(() => waiting.stop())
  const { columns } = process.stdout
  if (options.json === true) process.stdout.write(jsonLine(state))
  else
    process.stdout.write(
      `${options.links === true ? linksTable(state, columns) : peersTable(state, columns)}\n`
    )
}

/** @param columns of the terminal; undefined: there is none */
export function peersTable(state: MeshState, columns: number | undefined): string {
  const { self, peers: others, unreached } = state
  const own = self.draining === true ? 'this device,\nbeing drained' : 'this device'
  const rows = [{ ...self, shown: own, rttMs: null }, ...others.map(withState)]
  const ids = shortIds(rows.map(({ peerId }) => peerId))
  const names = shortNames(rows)
  const cells = rows.map(row => {
    const { peerId, name, shown, rttMs, memory, processors, prefetch, models, leases } = row
    return [
      clean(name),
      ids.get(peerId)!,
      shown,
      rttMs === null ? '' : formatMs(rttMs),
      [
        `${formatBytes(memory.freeBytes)} / ${formatBytes(memory.budgetBytes)}`,
        ...onProcessor(processors),
        ...besideIt(processors),
        ...readyFor(prefetch)
      ].join('\n'),
      models
        .filter(isNamed)
        .map(model => clean(model.name))
        .join(', '),
      leases
        .map(lease => `${leaseText(lease, rows, names)}${isIdle(lease, row, state) ? ', idle' : ''}`)
        .join('\n')
    ]
  })
  const head = ['name', 'peer', 'state', 'round trip', 'free / budget', 'models', 'leases']
  const lines = unreached.map(peer => fitted(unreachedLine(peer, names), columns))
  return [tableText(head, cells, columns), ...lines].join('\n')
}

/** What a device computes on, where it has said that it has more than its CPU. */
function onProcessor(processors: NodeRecord['processors']): string[] {
  const used = processors?.find(({ used }) => used)
  return used === undefined
    ? []
    : [used.kind === 'gpu' ? `on ${clean(used.name)}` : 'on its CPU, not its GPU']
}

/** What another processor computes beside it, in memory of its own. */
function besideIt(processors: NodeRecord['processors'] = []): string[] {
  return processors.flatMap(({ kind, memory, used }) =>
    memory === undefined || used
      ? []
      : [
          `${formatBytes(memory.freeBytes)} / ${formatBytes(memory.budgetBytes)}`,
          `on its ${clean(kind.toUpperCase())}`
        ]
  )
}

/** What a device has on its disk for the loss of another one. */
function readyFor(prefetch: NodeRecord['prefetch']): string[] {
  if (prefetch === undefined || prefetch.bytes === 0) return []
  return [`${formatBytes(prefetch.bytes)} of ${formatBytes(prefetch.quotaBytes)} prefetched`]
}

/** The state in words: of an incompatible peer with why, since that says which device to update. */
function withState(peer: Peer): Peer & { shown: string } {
  const { state, lastSeenMs, draining, direct, reason = 'it speaks another version' } = peer
  const connected = direct === false ? 'heard of' : 'connected'
  const words: Record<PeerState, string> = {
    connected: draining === true ? 'being drained' : connected,
    // Of one that others hand on there is no silence of its own.
    suspect: direct === false ? 'out of reach' : `silent for ${formatMs(lastSeenMs)}`,
    gone: `gone ${formatMs(lastSeenMs)} ago`,
    incompatible: `incompatible (${clean(reason).replace(': ', ':\n')})`
  }
  return { ...peer, shown: words[state] }
}

/** `tiny [3, 6) for desk`. */
function leaseText(
  { modelId, layers: [start, end], source }: Row['leases'][number],
  rows: readonly Row[],
  names: ReadonlyMap<string, string>
): string {
  const held = rows.flatMap(({ models }) => models)
  const model = clean(held.find(model => model.id === modelId && isNamed(model))?.name ?? modelId.slice(0, 8))
  return `${model} [${start}, ${end}) for ${nameIn(names, source)}`
}

function nameIn(names: ReadonlyMap<string, string>, id: string): string {
  return names.get(id) ?? shortId(id)
}

function unreachedLine(
  { name, knownFrom, addresses }: UnreachedPeer,
  names: ReadonlyMap<string, string>
): string {
  const from = knownFrom.map(id => nameIn(names, id))
  const at = addresses.length === 0 ? '' : `; tried ${clean(addresses.join(', '))}`
  return `${clean(name)}: not reachable from here (known from ${from.join(', ')})${at}`
}

/** @param columns of the terminal; undefined: there is none */
export function linksTable({ self, peers: others, links }: MeshState, columns: number | undefined): string {
  const members = [self, ...others.filter(({ connected }) => connected)]
  if (members.length === 1) return fitted('There are no links: no other device is connected.', columns)
  const names = shortNames(members)
  const rows = members.map(from => [
    `from ${names.get(from.peerId)!}`,
    ...members.map(to => {
      const link = links.find(candidate => candidate.from === from.peerId && candidate.to === to.peerId)
      if (link === undefined) return from === to ? '' : 'not measured'
      return `${formatMbps(link.mbps)} Mbps, ${formatMs(link.rttMs)}${howKnown(link)}`
    })
  ])
  // A narrow terminal shows a block for each row: what a figure is must be in its own line there.
  return tableText(['', ...members.map(({ peerId }) => `to ${names.get(peerId)!}`)], rows, columns)
}

/** What a figure rests on, where that is not a measurement of its own on devices that were not busy. */
function howKnown({ observed, starved }: MeshState['links'][number]): string {
  if (observed === true) return ' (seen)'
  return starved === true ? ' (busy)' : ''
}
