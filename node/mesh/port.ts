import { createServer } from 'node:net'

const TRIES = 50

/** `port` where it is free, else the next free one above it, else any (0). */
export async function freePort(port: number, listen: string): Promise<number> {
  if (port === 0) return 0
  for (let candidate = port; candidate < Math.min(port + TRIES, 65_536); candidate++) {
    if (await isFree(candidate, listen)) return candidate
  }
  return 0
}

function isFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(false)
      else reject(error)
    })
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })
}
