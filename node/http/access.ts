import { createHash, timingSafeEqual } from 'node:crypto'
import { hostname } from 'node:os'
import { getConnInfo } from '@hono/node-server/conninfo'
import type { Context, MiddlewareHandler } from 'hono'
import { TOKEN_HEADER } from '../client/token.ts'
import { HttpError } from './errors.ts'

export interface AccessRules {
  /** Address that the server listens at. */
  host: string
  apiKey: string | undefined
  /** What shows that a caller may read this node's home; undefined: nobody can. */
  token: string | undefined
}

const IS_OWNER = 'isOwner'
/** What proxies say of themselves and of whom they ask for. */
const FORWARDING_HEADERS = [
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-forwarded-port',
  'x-forwarded-server',
  'x-real-ip',
  'x-client-ip',
  'cf-connecting-ip',
  'true-client-ip'
]

/** True for addresses that only this device reaches. */
export function isLoopback(host: string): boolean {
  return (
    host === 'localhost' || host === '::1' || host === '::ffff:127.0.0.1' || /^127(\.\d{1,3}){3}$/.test(host)
  )
}

/**
 * Refuses what a web page elsewhere could send through a person's browser: requests under a foreign name (DNS
 * rebinding) and requests from another origin. With an API key, also whatever carries neither it nor the token of the
 * home; without one, also what a proxy passes on: it would be of this device whoever sent it.
 */
export function accessControl({ host, apiKey, token }: AccessRules): MiddlewareHandler {
  const wantedKey = apiKey === undefined ? undefined : digest(apiKey)
  const wantedToken = token === undefined ? undefined : digest(token)
  return async (context, next) => {
    checkHost(context, host)
    checkOrigin(context)
    const given = context.req.header(TOKEN_HEADER)
    const isOwner = wantedToken !== undefined && given !== undefined && isSame(given, wantedToken)
    context.set(IS_OWNER, isOwner)
    if (wantedKey !== undefined && !isOwner) checkKey(context, wantedKey)
    if (wantedKey === undefined && isForwarded(context)) {
      throw new HttpError(
        'local_only',
        'a proxy passed this on, and without an API key the node serves its own device alone: start it with --api-key-file'
      )
    }
    await next()
  }
}

/** Refuses requests under a foreign name alone: for files that hold nothing of this node, the page among them. */
export function ownNameOnly(host: string): MiddlewareHandler {
  return async (context, next) => {
    checkHost(context, host)
    await next()
  }
}

/**
 * Guards what has power over the mesh, key or not: only programs of this device may ask for it, never by way of a proxy,
 * and only those that can read the node's home.
 */
export const localOnly: MiddlewareHandler = async (context, next) => {
  if (!isOwnDevice(context) || isForwarded(context)) {
    throw new HttpError('local_only', 'only the device that runs the node may ask for this, through no proxy')
  }
  if (context.get(IS_OWNER) !== true) {
    throw new HttpError(
      'token_required',
      `this has power over the mesh: send what api-token in the node's home holds as "${TOKEN_HEADER}"`
    )
  }
  await next()
}

/** A device that asks at its own address comes from there, too. */
function isOwnDevice(context: Context): boolean {
  const { remote } = getConnInfo(context)
  const { localAddress } = context.env.incoming.socket
  return remote.address !== undefined && (isLoopback(remote.address) || remote.address === localAddress)
}

function isForwarded(context: Context): boolean {
  return FORWARDING_HEADERS.some(name => context.req.header(name) !== undefined)
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
  const scheme = context.env.incoming.socket.encrypted === true ? 'https' : 'http'
  const own = `${scheme}://${context.req.header('host')?.toLowerCase()}`
  const site = context.req.header('sec-fetch-site')
  const foreign =
    origin !== undefined ? origin.toLowerCase() !== own : site === 'cross-site' || site === 'same-site'
  if (foreign) throw new HttpError('foreign_origin', 'requests from other web pages are refused')
}

function checkKey(context: Context, wanted: Buffer): void {
  const key = /^Bearer +(\S+)\s*$/i.exec(context.req.header('authorization') ?? '')?.[1] ?? ''
  if (!isSame(key, wanted)) {
    throw new HttpError('invalid_api_key', 'send the API key of this node as "Authorization: Bearer KEY"')
  }
}

/** Host name of a Host header, without port and brackets. */
function hostName(header: string): string {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s/@]+))(?::\d{1,5})?$/i.exec(header)
  return (match?.[1] ?? match?.[2] ?? '').toLowerCase()
}

/** Digests have the same length whatever was given, so comparing them takes the same time. */
function isSame(given: string, wanted: Buffer): boolean {
  return timingSafeEqual(digest(given), wanted)
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
