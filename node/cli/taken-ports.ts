import { ApiError, createClient } from '../client/index.ts'
import { hostAndPort } from '../mesh/contacts.ts'
import { clean } from './format.ts'

/** The holder of a port has so long to say who it is. */
const HOLDER_TIMEOUT_MS = 2000

/** Where a node was to be, and where it is. */
export interface Ports {
  /** The API's address and the port for peers as they were asked for or are by default; 0 is any. */
  wanted: { api: { host: string; port: number }; port: number }
  /** The API's URL, and multiaddrs. */
  url: string
  addresses: readonly string[]
}

/** Notices of ports that are others', so that this node is at the next free ones: whoever goes to them meets another program. */
export async function takenPorts({ wanted: { api, port }, url, addresses }: Ports): Promise<string[]> {
  const notices: string[] = []
  if (api.port !== 0 && !url.endsWith(`:${api.port}`)) {
    const host = api.host === '0.0.0.0' ? '127.0.0.1' : api.host === '::' ? '::1' : api.host
    const who = await holderOf(`http://${host.includes(':') ? `[${host}]` : host}:${api.port}`)
    notices.push(
      `port ${api.port} is taken by ${who}: the API is at ${url}; --api HOST:PORT chooses another one`
    )
  }
  const at = addresses.map(address => hostAndPort(address.replace(/\/p2p\/[^/]+$/, '')))
  if (port !== 0 && at.length > 0 && at.every(each => !each.endsWith(`:${port}`)))
    notices.push(
      `port ${port} is taken: other devices are let in at ${at.join(', ')}; --port chooses another one`
    )
  return notices
}

/** The words for what answers at an address of this device, as far as it says who it is. */
async function holderOf(url: string): Promise<string> {
  try {
    const { self } = await createClient({ url, timeoutMs: HOLDER_TIMEOUT_MS }).mesh()
    return `the node ${clean(self.name).slice(0, 100)}`
  } catch (error) {
    // Whatever else it answers, or that it does not, it holds the port.
    return error instanceof ApiError && error.status === 401
      ? 'another node, or another server that asks for a key'
      : 'another program'
  }
}
