import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import { type HttpServer, type HttpServerInit, isLoopback, startHttpServer } from '../http/index.ts'
import { InputError } from './errors.ts'

/** What `up` serves: the API, and where that speaks TLS a door for the commands of this device, which know no certificate. */
export interface ApiServer extends Omit<HttpServer, 'url'> {
  /** For everybody who may use it. */
  url: string
  /** For this device's own commands. */
  ownUrl: string
}

/** Serves the API at its address, and, where that is HTTPS, at any port of loopback too. */
export async function startApiServer(init: HttpServerInit): Promise<ApiServer> {
  const { tls, ...plain } = init
  const main = await startHttpServer(init)
  if (tls === undefined) return joined(main, [main])
  try {
    return joined(main, [main, await startHttpServer({ ...plain, host: '127.0.0.1', port: 0 })])
  } catch (error) {
    await main.stop()
    throw error
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
