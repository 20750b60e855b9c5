// Runs inside a network namespace of its own, started by mesh-strangers.test.ts: members on a network with a stranger.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { babble } from '../fixtures/mdns-babble.ts'
import { MdnsSpoofer } from '../fixtures/mdns-spoofer.ts'
import { SilentCallers } from '../fixtures/silent-callers.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const MEMBERS = ['10.77.0.1', '10.77.0.2', '10.77.0.3']
const STRANGERS = Array.from({ length: 9 }, (_, i) => `10.77.0.${i + 60}`)
const PLACES = 100
const BABBLE_PACKETS = 3000

const meshes = new Meshes()

/** A member restarts while a stranger announces addresses of its own for both. */
async function spoofed(): Promise<unknown> {
  const notices: string[] = []
  const add = async (i: number, home: string) => {
    const mesh = await meshes.add('ab'[i]!, { mdns: true, mdnsIntervalMs: 1000, listen: MEMBERS[i]!, home })
    mesh.events.on('notice', text => notices.push(text))
    return mesh
  }
  const homes = [await meshes.home(), await meshes.home()] as const
  const a = await add(0, homes[0])
  const b = await add(1, homes[1])
  await until(() => a.peers.length === 1 && b.peers.length === 1)
  const known = [a, b].map(mesh => mesh.peerId)
  await using stranger = await MdnsSpoofer.start(MEMBERS[2]!)
  await until(() => stranger.learned.size === 2 && stranger.packets > 50)
  const port = Number(/tcp\/(\d+)/.exec(b.addresses[0]!)![1])
  await b.stop()
  // Until the other member has knocked at what the stranger tells of.
  await until(() => stranger.dials >= 8)
  const dials = stranger.dials
  const startMs = performance.now()
  const back = await meshes.add('b', {
    mdns: true,
    mdnsIntervalMs: 1000,
    listen: MEMBERS[1]!,
    home: homes[1],
    port
  })
  back.events.on('notice', text => notices.push(text))
  await until(() => back.peers.length === 1 && a.peers[0]?.connected === true)
  const backMs = performance.now() - startMs
  const told = { packets: stranger.packets, dials }
  await meshes.stopAll()
  const remembered = await Promise.all(homes.map(home => readFile(join(home, 'peers.json'), 'utf8')))
  return { told, known, backMs, remembered: remembered.map(text => JSON.parse(text)), notices }
}

/** A device joins at a node to which a stranger with nine addresses opens connections that say nothing. */
async function crowded(): Promise<unknown> {
  const a = await meshes.add('a', { listen: MEMBERS[0]! })
  const port = Number(/tcp\/(\d+)/.exec(a.addresses[0]!)![1])
  using callers = new SilentCallers({ host: MEMBERS[0]!, port }, STRANGERS)
  await until(() => callers.opened > 2 * PLACES)
  const startMs = performance.now()
  const joining = await meshes.add('c', { listen: MEMBERS[1]!, peers: a.addresses })
  await until(() => joining.peers.length === 1 && a.peers.length === 1)
  const joinedMs = performance.now() - startMs
  await meshes.stopAll()
  return { joinedMs, opened: callers.opened, ended: callers.ended }
}

/** Members on a network on which somebody sends packets that are nearly mDNS; another one comes meanwhile. */
async function babbled(): Promise<unknown> {
  const mdns = { mdns: true, mdnsIntervalMs: 1000 }
  const a = await meshes.add('a', { ...mdns, listen: MEMBERS[0]! })
  const b = await meshes.add('b', { ...mdns, listen: MEMBERS[1]! })
  await until(() => a.peers.length === 1 && b.peers.length === 1)
  const sent = await babble(MEMBERS[2]!, { packets: BABBLE_PACKETS, seed: 1 })
  const late = await meshes.add('c', { ...mdns, listen: MEMBERS[2]! })
  await until(() =>
    [a, b, late].every(({ peers }) => peers.filter(({ connected }) => connected).length === 2)
  )
  const known = [a, b, late].map(({ peers }) => peers.map(({ record }) => record.name).sort())
  await meshes.stopAll()
  return { sent, known }
}

const PARTS = { spoofed, crowded, babbled }

try {
  process.stdout.write(JSON.stringify(await PARTS[process.argv[2] as keyof typeof PARTS]()))
} finally {
  await meshes.stop()
}
