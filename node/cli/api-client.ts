import { type ApiAccess, readApiFile } from '../api-file.ts'
import { type Client, createClient, NoNodeError } from '../client/index.ts'
import type { DeviceChoice } from '../processor/choices.ts'
import { type ApiKeyOptions, apiKeyOf } from './api-key.ts'
import { InputError } from './errors.ts'
import { clean } from './format.ts'
import { httpFetch } from './http-fetch.ts'
import type { LogOptions } from './options.ts'
import type { Waiting } from './waiting.ts'

const DEVICE_OF_ANOTHER =
  '--device is for a node that is started for the occasion; one that runs computes with what `edgeshard up --device` said'

type Told = Pick<Waiting, 'say' | 'note'>

/** Which node a command asks. */
export interface NodeChoice extends LogOptions, ApiKeyOptions {
  /** Address of its API, else the node that runs on `home`. */
  api?: string | undefined
  home: string
  /** The model that is going to be prompted, where one is. */
  model?: string | undefined
  /** What computes on a node that is started for the occasion. @default 'cpu' */
  device?: DeviceChoice | undefined
  /** Told whom is asked. */
  waiting?: Told | undefined
}

/** A node, and what to do when it is no longer needed. */
export interface Connection {
  node: Client
  close(): Promise<void>
}

/**
 * The running node that a command is about.
 *
 * @throws {NoNodeError} when none runs on the home, {InputError} for what is no address
 */
export async function runningNode({ api, home, waiting, ...key }: NodeChoice): Promise<Client> {
  const apiKey = await apiKeyOf(key)
  const own = await readApiFile(home)
  if (api === undefined && own === undefined) throw new NoNodeError(`no node runs on ${home}`)
  return said(clientOf(api ?? own!.api, { apiKey, own }), waiting)
}

/**
 * The node at `api`, else the one that runs on this home, else one started for the occasion.
 *
 * @throws {InputError} for what is no address, and for a `device` where the node runs already
 */
export async function connectNode(choice: NodeChoice, signal: AbortSignal): Promise<Connection> {
  const { api, home, model, device, waiting, logLevel: level, logFormat: format } = choice
  const apiKey = await apiKeyOf(choice)
  const close = async () => undefined
  const own = await readApiFile(home)
  if (api !== undefined && device !== undefined) throw new InputError(DEVICE_OF_ANOTHER)
  if (api !== undefined) return { node: said(clientOf(api, { apiKey, own }), waiting), close }
  // It has the home, so none could be started beside it: whether it answers shows when it is asked.
  if (own !== undefined && device !== undefined) throw new InputError(DEVICE_OF_ANOTHER)
  if (own !== undefined) return { node: said(clientOf(own.api, { apiKey, own }), waiting), close }
  waiting?.say('no node runs here, so one is started for this')
  // Loaded only now: asking a node that runs needs no peer-to-peer library.
  const { startEphemeralNode } = await import('./ephemeral.ts')
  const ephemeral = await startEphemeralNode({
    home,
    model,
    device,
    signal,
    // A script that asks for a processor hears what comes of it, too.
    onNotice: message => notice(message, waiting, device !== undefined),
    log: { level, format }
  })
  return { node: createClient({ url: ephemeral.api, fetch: httpFetch }), close: ephemeral.stop }
}

function said(node: Client, waiting: Told | undefined): Client {
  waiting?.say(`asking the node at ${new URL(node.url).host}`)
  return node
}

/** @param own the node that runs on the home: its token is for that node alone */
function clientOf(
  address: string,
  { apiKey, own }: { apiKey: string | undefined; own: ApiAccess | undefined }
): Client {
  try {
    const url = new URL(address.includes('://') ? address : `http://${address}`).href
    const isOwn = own !== undefined && new URL(own.api).origin === new URL(url).origin
    return createClient({
      url,
      apiKey,
      fetch: httpFetch,
      ...(isOwn && { token: own.token })
    })
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    throw new InputError(`--api ${address} is not an address such as http://127.0.0.1:7447`, { cause: error })
  }
}

function notice(message: string, waiting: Told | undefined, always: boolean): void {
  if (!process.stderr.isTTY && !always) return
  if (waiting === undefined) process.stderr.write(`${clean(message)}\n`)
  else waiting.note(clean(message))
}
