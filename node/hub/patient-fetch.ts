import { setTimeout as sleep } from 'node:timers/promises'

/** What a server answers that has too much to do for now. */
const BUSY = new Set([408, 429, 500, 502, 503, 504])
const ATTEMPTS = 5
const FIRST_WAIT_MS = 1_000
/** A client that is asked to wait longer does better to come back. */
const MAX_WAIT_MS = 5 * 60_000

export interface PatientFetchOptions {
  signal?: AbortSignal | undefined
  /** @default 1000; doubled with each answer, where the server names no time */
  retryMs?: number | undefined
  /** Called before each wait. */
  onWait?: ((status: number, waitMs: number) => void) | undefined
}

/**
 * The global fetch, but a server that is busy (429, 503 and the like) is asked again, when it says (Retry-After), a few
 * times. What it says last is what is returned.
 *
 * @throws {Error} naming the host and the cause when it cannot be reached.
 */
export function patientFetch({ signal, retryMs, onWait }: PatientFetchOptions): typeof fetch {
  return async (input, init) => {
    for (let attempt = 1; ; attempt++) {
      const response = await fetch(input, { ...init, ...(signal && { signal }) }).catch((error: unknown) => {
        signal?.throwIfAborted()
        throw unreachable(new URL(input instanceof Request ? input.url : input), error)
      })
      const waitMs = retryAfterMs(response) ?? (retryMs ?? FIRST_WAIT_MS) * 2 ** (attempt - 1)
      if (!BUSY.has(response.status) || attempt === ATTEMPTS || waitMs > MAX_WAIT_MS) return response
      await response.body?.cancel()
      onWait?.(response.status, waitMs)
      await sleep(waitMs, undefined, signal === undefined ? {} : { signal })
    }
  }
}

/** Retry-After: seconds, or a date. */
function retryAfterMs(response: Response): number | undefined {
  const value = response.headers.get('retry-after')
  if (value === null) return undefined
  const seconds = Number(value)
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

/** What the codes of Node and its fetch mean. */
const CAUSES: Record<string, string> = {
  ENOTFOUND: 'its name is not known: there is no network, or no DNS',
  EAI_AGAIN: 'its name cannot be looked up: there is no network, or no DNS',
  ECONNREFUSED: 'nothing answers there',
  ECONNRESET: 'the connection was cut',
  UND_ERR_SOCKET: 'the connection was cut',
  ENETUNREACH: 'there is no way to its network',
  EHOSTUNREACH: 'there is no way to it',
  ETIMEDOUT: 'it does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'it does not answer',
  UND_ERR_HEADERS_TIMEOUT: 'it does not answer'
}

function unreachable(url: URL, error: unknown): Error {
  const { code, message, address, port } = deepestCause(error)
  const cause = (code && CAUSES[code]) ?? message
  // The address tells a proxy from the host.
  const detail = [code, address === undefined ? undefined : `${address}:${port}`].filter(
    part => part !== undefined
  )
  const details = detail.length === 0 ? '' : ` (${detail.join(' ')})`
  return new Error(`${url.host} cannot be reached: ${cause}${details}`, { cause: error })
}

/** What Node says of a connection that failed. */
interface Failure {
  message: string
  code?: string | undefined
  address?: string
  port?: number
}

/** fetch says "fetch failed" and keeps why in its cause, of several tries in an AggregateError. */
function deepestCause(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error) }
  const inner = error.cause ?? (error instanceof AggregateError ? error.errors[0] : undefined)
  return inner === undefined ? error : deepestCause(inner)
}
