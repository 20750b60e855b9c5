import { createHash, timingSafeEqual } from 'node:crypto'
import { hostname } from 'node:os'
import { getConnInfo } from '@hono/node-server/conninfo'
import type { Context, MiddlewareHandler } from 'hono'
import { HttpError } from './errors.ts'

export interface AccessRules {
  /** Address that the server listens at. */
  host: string
  apiKey: string | undefined
}

/** True for addresses that only this device reaches. */
export function isLoopback(host: string): boolean {
  return (
    host === 'localhost' || host === '::1' || host === '::ffff:127.0.0.1' || /^127(\.\d{1,3}){3}$/.test(host)
  )
}

/**
 * Refuses what a web page elsewhere could send through a person's browser: requests under a foreign name (DNS
 * rebinding) and requests from another origin. With an API key, also whatever does not carry it.
 */
export function accessControl({ host, apiKey }: AccessRules): MiddlewareHandler {
  const wanted = apiKey === undefined ? undefined : digest(apiKey)
  return async (context, next) => {
    checkHost(context, host)
    checkOrigin(context)
    if (wanted !== undefined) checkKey(context, wanted)
    await next()
  }
}

/** Guards what only this device may ask for, key or not. */
export const localOnly: MiddlewareHandler = async (context, next) => {
  if (!isLoopback(getConnInfo(context).remote.address ?? '')) {
    throw new HttpError('local_only', 'only the device that runs the node may ask for this')
  }
  await next()
}

function checkHost(context: Context, boundTo: string): void {
  const header = context.req.header('host')
  const name = header === undefined ? '' : hostName(header)
  const own = hostname().toLowerCase()
  const local = context.env.incoming.socket.localAddress?.replace(/^::ffff:/, '') ?? boundTo
  const allowed = isLoopback(boundTo) ? [] : [boundTo.toLowerCase(), local, own, `${own}.local`]
  if (!isLoopback(name) && !allowed.includes(name)) {
    throw new HttpError(
      'foreign_host',
      `the Host header names "${name.slice(0, 100)}", which is not this node`
    )
  }
}

function checkOrigin(context: Context): void {
  const origin = context.req.header('origin')
  const own = `http://${context.req.header('host')?.toLowerCase()}`
  const site = context.req.header('sec-fetch-site')
  const foreign =
    origin !== undefined ? origin.toLowerCase() !== own : site === 'cross-site' || site === 'same-site'
  if (foreign) throw new HttpError('foreign_origin', 'requests from other web pages are refused')
}

function checkKey(context: Context, wanted: Buffer): void {
  const key = /^Bearer +(\S+)\s*$/i.exec(context.req.header('authorization') ?? '')?.[1] ?? ''
  if (!timingSafeEqual(digest(key), wanted)) {
    throw new HttpError('invalid_api_key', 'send the API key of this node as "Authorization: Bearer KEY"')
  }
}

/** Host name of a Host header, without port and brackets. */
function hostName(header: string): string {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s/@]+))(?::\d{1,5})?$/i.exec(header)
  return (match?.[1] ?? match?.[2] ?? '').toLowerCase()
}

/** Digests have the same length whatever the key, so comparing them takes the same time. */
function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
