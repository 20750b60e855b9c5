import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { openFiles } from '../open-files.ts'
import { MAX_CONNECTIONS } from './constants.ts'
import { errorAnswer, HttpError } from './errors.ts'

/** Of what a process may open so much stays free for models and peers: a fifth, at most this. */
const KEPT_FREE_SHARE = 5
const MOST_KEPT_FREE = 64
/** The connection itself, and a file that its answer reads. */
const FILES_A_CONNECTION = 2
const FEWEST_CONNECTIONS = 4

/** Connections that a server may have with so many files to be opened; more are told to come again. */
export function connectionsFor({ limit, open }: { limit: number; open: number }): number {
  const kept = Math.min(MOST_KEPT_FREE, Math.ceil(limit / KEPT_FREE_SHARE))
  const connections = Math.floor((limit - open - kept) / FILES_A_CONNECTION)
  return Math.min(MAX_CONNECTIONS, Math.max(FEWEST_CONNECTIONS, connections))
}

/**
 * Answers connections beyond `most` with 429 and closes them, before anything of the request is read and in the same turn,
 * so that each holds a file for microseconds: a process that cannot accept resets what waits at its door. Over TLS, where
 * nothing can be said so early, they are closed.
 */
export function limitConnections(
  server: Server,
  { isTls, most = connectionsFor(openFiles()) }: { isTls: boolean; most?: number | undefined }
): void {
  let connections = 0
  server.prependListener('connection', (socket: Socket) => {
    if (connections >= most) {
      if (!isTls) socket.write(REFUSAL)
      socket.destroy()
      return
    }
    connections++
    socket.once('close', () => connections--)
  })
}

const REFUSAL = refusal()

function refusal(): string {
  const { body } = errorAnswer(
    new HttpError('too_many_requests', 'this node has no room for more connections; try again soon')
  )
  const text = JSON.stringify(body)
  return [
    'HTTP/1.1 429 Too Many Requests',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
    'retry-after: 1',
    'connection: close',
    '',
    text
  ].join('\r\n')
}
