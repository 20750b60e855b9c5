import http from 'node:http'
import { RepositoryError } from './errors.ts'

/** This device is never asked through a proxy. */
const LOOPBACK = ['localhost', '127.0.0.1', '::1']

/**
 * Sends requests by the proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, NO_PROXY, in capitals or not), until
 * it is disposed of. Without one, nothing changes.
 *
 * @throws {RepositoryError} when this Node cannot use a proxy, or what is named is no address.
 */
export function proxyFromEnvironment(env: NodeJS.ProcessEnv = process.env): Disposable {
  const named = (name: string) => env[name.toLowerCase()] || env[name]
  const [plain, secure, excluded] = [named('HTTP_PROXY'), named('HTTPS_PROXY'), named('NO_PROXY')]
  const none = { [Symbol.dispose]: () => undefined }
  if (plain === undefined && secure === undefined) return none
  // Not every Node that runs this has it, so it is no named import.
  if (!('setGlobalProxyFromEnv' in http)) {
    throw new RepositoryError(
      `HTTP_PROXY or HTTPS_PROXY is set, which Node ${process.versions.node} cannot follow: use the newest Node 24, or unset it`
    )
  }
  try {
    const restore = http.setGlobalProxyFromEnv({
      ...(plain && { HTTP_PROXY: plain }),
      ...(secure && { HTTPS_PROXY: secure }),
      NO_PROXY: [...(excluded ? [excluded] : []), ...LOOPBACK].join(',')
    })
    return { [Symbol.dispose]: restore }
  } catch {
    throw new RepositoryError('HTTP_PROXY or HTTPS_PROXY is set to what is no address of a proxy')
  }
}
