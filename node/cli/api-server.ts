import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { ApiError, createClient } from '../client/index.ts'
import { PortTakenError } from '../errors.ts'
import { type HttpServer, type HttpServerInit, isLoopback, startHttpServer } from '../http/index.ts'
import { InputError } from './errors.ts'
import { clean } from './format.ts'

/** What `up` serves: the API, and where that speaks TLS a door for the commands of this device, which know no certificate. */
export interface ApiServer extends Omit<HttpServer, 'url'> {
  /** For everybody who may use it. */
  url: string
  /** For this device's own commands. */
  ownUrl: string
}

/** Whoever holds a port has so long to say who it is. */
const HOLDER_TIMEOUT_MS = 2000

/**
 * Serves the API at its address, and, where that is HTTPS, at any port of loopback too.
 *
 * @throws {PortTakenError} saying who holds the port that it has to be
 */
export async function startApiServer(init: HttpServerInit): Promise<ApiServer> {
  const { tls, ...plain } = init
  const main = await startHttpServer(init).catch(async error => {
    throw init.exactPort === true && error instanceof PortTakenError ? await takenError(init, error) : error
  })
  if (tls === undefined) return joined(main, [main])
  try {
    return joined(main, [main, await startHttpServer({ ...plain, host: '127.0.0.1', port: 0 })])
  } catch (error) {
    await main.stop()
    throw error
  }
}

async function takenError({ host, port }: HttpServerInit, cause: Error): Promise<PortTakenError> {
  const at = (of: string) => `${of.includes(':') ? `[${of}]` : of}`
  const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  const who = await holderOf(`http://${at(reached)}:${port}`)
  return new PortTakenError(
    `${at(host)}:${port}, which was asked for, is taken by ${who}: stop that, or give --api another port, ${at(host)}:0 for any that is free`,
    { cause }
  )
}

/** Who answers at an address of this device, as far as it says. */
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

function joined(main: HttpServer, all: HttpServer[]): ApiServer {
  const each = async (act: (server: HttpServer) => Promise<void>) => void (await Promise.all(all.map(act)))
  const stop = () => each(server => server.stop())
  return {
    url: main.url,
    ownUrl: all.at(-1)!.url,
    get running() {
      return all.reduce((sum, { running }) => sum + running, 0)
    },
    drain: (graceMs, options) => each(server => server.drain(graceMs, options)),
    stop,
    [Symbol.asyncDispose]: stop
  }
}

/** What to say of an API that others on the network can listen to. */
export function plainHttpNotice(host: string, url: string): string | undefined {
  if (isLoopback(host) || url.startsWith('https:')) return undefined
  return (
    `the API at ${url} is plain HTTP: who can listen on that network reads the API key, prompts and answers. ` +
    'Give --tls-cert and --tls-key, or listen at 127.0.0.1 behind a proxy with TLS'
  )
}

/**
 * The certificate and key that the options name, undefined where they name none.
 *
 * @throws {InputError} where one of the two is missing, cannot be read or does not fit
 */
export async function tlsOf({
  tlsCert,
  tlsKey
}: {
  tlsCert?: string | undefined
  tlsKey?: string | undefined
}): Promise<HttpServerInit['tls']> {
  if (tlsCert === undefined && tlsKey === undefined) return undefined
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new InputError('--tls-cert and --tls-key belong together: give both')
  }
  const read = (path: string) =>
    readFile(path).catch(error => {
      throw new InputError(`the file for TLS cannot be read: ${(error as Error).message}`, { cause: error })
    })
  const tls = { cert: await read(tlsCert), key: await read(tlsKey) }
  try {
    createSecureContext(tls)
  } catch (error) {
    const { message } = error as Error
    throw new InputError(`${tlsCert} and ${tlsKey} are no certificate with its key: ${message}`, {
      cause: error
    })
  }
  return tls
}
