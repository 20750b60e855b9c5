import { createServer } from 'node:net'
import { PortTakenError } from '../errors.ts'

const TRIES = 50

export interface PortInit {
  /** TCP port; when it is taken the next free one; 0 for any. */
  port: number
  /** That port or none. @default false */
  exactPort?: boolean
}

/**
 * `port` where it is free, else the next free one above it, else any (0).
 *
 * @throws {PortTakenError} where it has to be that one
 */
export async function freePort({ port, exactPort = false }: PortInit, listen: string): Promise<number> {
  if (port === 0) return 0
  const tries = exactPort ? 1 : TRIES
  let why: string | undefined
  for (let candidate = port; candidate < Math.min(port + tries, 65_536); candidate++) {
    why = await whyNot(candidate, listen)
    if (why === undefined) return candidate
  }
  if (exactPort) {
    throw new PortTakenError(
      `TCP port ${port}, which was asked for, ${why}: stop what has it, or give --port another one, 0 for any that is free`
    )
  }
  return 0
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is taken by another program, or another node',
  EACCES: 'is not for this user'
}

/** Why a port cannot be had, undefined where it can. */
function whyNot(port: number, host: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = REASONS[error.code ?? '']
      if (reason === undefined) reject(error)
      else resolve(reason)
    })
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}
