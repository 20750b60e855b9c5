import type { MeshState } from '../api.ts'
import { readApiFile } from '../api-file.ts'
import { ApiError, createClient } from '../client/index.ts'
import { DEFAULT_PORT } from '../constants.ts'
import { readContacts } from '../mesh/contacts.ts'
import { copyFinding } from '../mesh/copies.ts'
import { interfaceName, localIpv4 } from '../mesh/interfaces.ts'
import { checkMulticast, multicastHint } from '../mesh/multicast.ts'
import { freePort } from '../mesh/port.ts'
import { counted, formatBytes } from '../units.ts'
import { VERSION } from '../version.ts'
import type { Finding } from './finding.ts'

const API_TIMEOUT_MS = 3000
/** Wired networks stay below 2 ms, Wi-Fi below 10; a token makes this trip at every stage. */
const SLOW_RTT_MS = 20

export async function checkMulticastSending(): Promise<Finding[]> {
  const addresses = localIpv4()
  if (addresses.every(address => address.startsWith('127.'))) {
    const advice = 'connect this device; nodes on the same device find each other nevertheless'
    return [{ level: 'problem', check: 'network', found: 'there is no network but loopback', advice }]
  }
  const checks = await checkMulticast()
  return checks.map(check => {
    const found = `${interfaceName(check.address)} (${check.address})`
    return check.error === null
      ? { level: 'ok', check: 'multicast', found: `${found} sends multicast` }
      : {
          level: 'problem',
          check: 'multicast',
          found: `${found}: ${check.error}`,
          advice: multicastHint(check)
        }
  })
}

export async function checkPort(home: string): Promise<Finding[]> {
  if ((await askNode(home)) !== null) return []
  const port = await freePort(DEFAULT_PORT, '0.0.0.0')
  if (port === DEFAULT_PORT) return [{ level: 'ok', check: 'port', found: `TCP port ${port} is free` }]
  const found = `TCP port ${DEFAULT_PORT} is in use; edgeshard up will take ${port}`
  return [
    { level: 'note', check: 'port', found, advice: 'allow that port, too, if this device has a firewall' }
  ]
}

/** What the node that runs here knows of the others. @param up what starts one */
export async function checkRunningNode(home: string, up: string): Promise<Finding[]> {
  const answer = await askNode(home)
  if (answer === null) {
    return [{ level: 'note', check: 'node', found: 'no node runs here', advice: `start one with '${up}'` }]
  }
  if (answer.status === 401) {
    const found = 'a node runs here, and its API asks for a key'
    return [
      { level: 'note', check: 'node', found, advice: 'set EDGESHARD_API_KEY to look at its peers, too' }
    ]
  }
  const { state } = answer
  if (state === undefined) {
    const found = `the node that runs here answers ${answer.status} when asked for its peers`
    return [{ level: 'problem', check: 'node', found, advice: 'look at what it printed, and start it anew' }]
  }
  const connected = state.peers.filter(peer => peer.connected)
  const findings: Finding[] = [
    {
      level: 'ok',
      check: 'node',
      found: `${state.self.name} runs and is connected to ${counted(connected.length, 'device')}`
    }
  ]
  const { prefetch } = state.self
  if (prefetch !== undefined) {
    const found =
      prefetch.quotaBytes === 0
        ? 'no weights are prefetched here for the case that another device dies'
        : `${formatBytes(prefetch.bytes)} of weights are here for the case that another device dies, of ${formatBytes(prefetch.quotaBytes)} at most`
    findings.push({ level: 'ok', check: 'prefetch', found })
  }
  const known = await readContacts(home)
  const port = /\/tcp\/(\d+)/.exec(state.self.addresses[0] ?? '')?.[1] ?? DEFAULT_PORT
  const incompatible = state.peers.filter(peer => peer.state === 'incompatible')
  if (connected.length === 0 && incompatible.length === 0) {
    const advice =
      `is 'edgeshard up' running on the others, are they joined (edgeshard invite, edgeshard join) and on this ` +
      `network? A firewall must let TCP port ${port} and UDP port 5353 in`
    const found =
      known.size === 0
        ? 'nobody was ever found'
        : `of ${counted(known.size, 'known device')} none is reachable`
    findings.push({ level: known.size === 0 ? 'note' : 'problem', check: 'peers', found, advice })
  }
  // A node of before, which runs still, says nothing of copies.
  for (const copy of state.copies ?? []) {
    const [found, advice] = copyFinding(copy, home)
    findings.push({ level: 'problem', check: 'identity', found, advice })
  }
  for (const { name, version, reason } of incompatible) {
    const found = `${name} is incompatible (${reason ?? `version ${version}`}); this device runs ${VERSION}`
    const advice =
      'run the same version on both: until then neither plans with the other or gets weights from it'
    findings.push({ level: 'problem', check: 'versions', found, advice })
  }
  for (const { name, knownFrom, addresses } of state.unreached) {
    const found = `${name} is not reachable from here, but from others (${knownFrom.length})`
    const advice =
      `a firewall on ${name} or here, or two networks: both must let in the TCP port that edgeshard up printed, ` +
      `here ${port}, there ${addresses.join(', ') || 'not known'}`
    findings.push({ level: 'problem', check: 'peers', found, advice })
  }
  for (const { name, version, rttMs } of connected) {
    if (version !== VERSION) {
      const found = `${name} runs version ${version}, this device ${VERSION}`
      findings.push({ level: 'note', check: 'versions', found, advice: 'update the older one' })
    }
    if (rttMs !== null && rttMs > SLOW_RTT_MS) {
      const found = `${name} is ${rttMs.toFixed(0)} ms away`
      findings.push({
        level: 'note',
        check: 'links',
        found,
        advice: 'a cable instead of Wi-Fi makes every token faster'
      })
    }
  }
  return findings
}

interface Answer {
  status: number
  state?: MeshState
}

/** What the node on this home says of its mesh; null where none answers. */
async function askNode(home: string): Promise<Answer | null> {
  const own = await readApiFile(home)
  if (own === undefined) return null
  const { api: url, token } = own
  const node = createClient({ url, token, apiKey: process.env.EDGESHARD_API_KEY, timeoutMs: API_TIMEOUT_MS })
  try {
    return { status: 200, state: await node.mesh() }
  } catch (error) {
    return error instanceof ApiError ? { status: error.status } : null
  }
}
