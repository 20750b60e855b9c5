import { createHash, timingSafeEqual } from 'node:crypto'
import { hostname } from 'node:os'
import { getConnInfo } from '@hono/node-server/conninfo'
import type { Context, MiddlewareHandler } from 'hono'
import { TOKEN_HEADER } from '../client/token.ts'
import { type ApiKeys, KEY_HOLDER_VARIABLE } from './api-keys.ts'
import { allowOrigin, isPreflight, preflightAnswer } from './cors.ts'
import { HttpError } from './errors.ts'
import { CONTAINER_HOST, isAllowedOrigin } from './origins.ts'
import type { PageGrants } from './page-grants.ts'

export interface AccessRules {
  /** Address that the server listens at. */
  host: string
  keys: ApiKeys
  /** What shows that a caller may read this node's home; undefined: nobody can. */
  token: string | undefined
  /** Origins of pages that may use the API, besides those of this device and of apps; `*`: any. */
  allowOrigins: readonly string[]
  /** Names that the node may be called by, besides its own; `*`: any. */
  allowHosts: readonly string[]
}

const IS_OWNER = 'isOwner'
const IS_FOREIGN_PAGE = 'isForeignPage'
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
 * rebinding: a page that has no key gains nothing with one, so a valid key makes every name good) and requests from an
 * origin that is not allowed. With an API key, also whatever carries neither it nor the token of the home; without one,
 * also what a proxy passes on: it would be of this device whoever sent it.
 */
export function accessControl(rules: AccessRules): MiddlewareHandler {
  const { keys, token } = rules
  const wantedToken = token === undefined ? undefined : digest(token)
  return async (context, next) => {
    const holder = keys.holderOf(keyOf(context))
    context.set(KEY_HOLDER_VARIABLE, holder)
    // Browsers ask without the key whether they may send it.
    if (holder === undefined && !(keys.isAsked && isPreflight(context)))
      checkHost(context, rules, ', and so does an API key')
    const origin = checkedOrigin(context, rules)
    context.set(IS_FOREIGN_PAGE, origin !== undefined)
    if (origin !== undefined && isPreflight(context)) return preflightAnswer(context, origin)
    const given = context.req.header(TOKEN_HEADER)
    const isOwner = wantedToken !== undefined && given !== undefined && isSame(given, wantedToken)
    context.set(IS_OWNER, isOwner)
    // Whoever may read the answer may read why there is none, too.
    if (origin !== undefined) context.set(ALLOWED_ORIGIN, origin)
    if (keys.isAsked && !isOwner && holder === undefined) {
      throw new HttpError(
        'invalid_api_key',
        'send the API key of this node as "Authorization: Bearer KEY" or "x-api-key: KEY"'
      )
    }
    if (!keys.isAsked && isForwarded(context)) {
      throw new HttpError(
        'local_only',
        'a proxy passed this on, and without an API key the node serves its own device alone: start it with --api-key-file'
      )
    }
    await next()
    return undefined
  }
}

/** What `crossOrigin` answers with. */
const ALLOWED_ORIGIN = 'allowedOrigin'

/** Lets the pages that `accessControl` has let in read what is answered, errors as well. */
export const crossOrigin: MiddlewareHandler = async (context, next) => {
  await next()
  const origin: unknown = context.get(ALLOWED_ORIGIN)
  if (typeof origin === 'string') allowOrigin(context.res.headers, origin)
}

/** Refuses requests under a foreign name alone: for files that hold nothing of this node, the page among them. */
export function ownNameOnly(rules: AccessRules): MiddlewareHandler {
  return async (context, next) => {
    checkHost(context, rules, '')
    await next()
  }
}

/**
 * Guards what has power over the mesh, key or not: only programs of this device may ask for it, never by way of a proxy,
 * no page but the node's own, and only those that can read the node's home.
 */
export const localOnly: MiddlewareHandler = async (context, next) => {
  checkOwnDevice(context)
  if (context.get(IS_OWNER) !== true) {
    throw new HttpError(
      'token_required',
      `this has power over the mesh: send what api-token in the node's home holds as "${TOKEN_HEADER}"`
    )
  }
  await next()
}

/** The same, but for a page of the node, too, that a person has given this power alone. */
export function localOrGranted(grants: PageGrants): MiddlewareHandler {
  return async (context, next) => {
    const given = context.req.header(TOKEN_HEADER)
    if (given === undefined || !grants.allows(given)) return await localOnly(context, next)
    checkOwnDevice(context)
    return await next()
  }
}

/** Lets in programs of this device, and the node's own page there, whoever's they are. */
export const ownDeviceOnly: MiddlewareHandler = async (context, next) => {
  checkOwnDevice(context)
  await next()
}

function checkOwnDevice(context: Context): void {
  if (context.get(IS_FOREIGN_PAGE) === true) {
    throw new HttpError('foreign_origin', 'no page of another origin may ask for this')
  }
  if (!isOwnDevice(context) || isForwarded(context)) {
    throw new HttpError('local_only', 'only the device that runs the node may ask for this, through no proxy')
  }
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

function checkHost(context: Context, { host: boundTo, allowHosts }: AccessRules, advice: string): void {
  const header = context.req.header('host')
  const name = header === undefined ? '' : hostName(header)
  const own = hostname().toLowerCase()
  const local = context.env.incoming.socket.localAddress?.replace(/^::ffff:/, '') ?? boundTo
  const given = [CONTAINER_HOST, ...allowHosts]
  const allowed = isLoopback(boundTo) ? given : [...given, boundTo.toLowerCase(), local, own, `${own}.local`]
  if (!isLoopback(name) && !allowed.includes(name) && !allowHosts.includes('*')) {
    const shown = name.slice(0, 100)
    throw new HttpError(
      'foreign_host',
      `the Host header names "${shown}", which is not this node; "up --allow-host ${shown}" allows it${advice}`
    )
  }
}

/** The origin of a page that is not the node's own and may use it; undefined: there is none. */
function checkedOrigin(context: Context, { allowOrigins }: AccessRules): string | undefined {
  const origin = context.req.header('origin')
  const scheme = context.env.incoming.socket.encrypted === true ? 'https' : 'http'
  const own = `${scheme}://${context.req.header('host')?.toLowerCase()}`
  const site = context.req.header('sec-fetch-site')
  if (origin?.toLowerCase() === own) return undefined
  if (origin !== undefined && isAllowedOrigin(origin, allowOrigins)) return origin
  if (origin !== undefined || site === 'cross-site' || site === 'same-site') {
    throw new HttpError(
      'foreign_origin',
      'requests from other web pages are refused; "up --allow-origin ORIGIN" allows those of one'
    )
  }
  return undefined
}

/** The API key of a request: a bearer token, or where Anthropic's clients have it. */
function keyOf(context: Context): string {
  const bearer = /^Bearer +(\S+)\s*$/i.exec(context.req.header('authorization') ?? '')?.[1]
  return bearer ?? context.req.header('x-api-key') ?? ''
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
