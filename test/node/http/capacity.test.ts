import { createServer, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { connectionsFor, limitConnections } from '../../../node/http/capacity.ts'

let server: Server
afterEach(() => {
  server.closeAllConnections()
  server.close()
})

const ALL = 90
const MOST = 18

/** Status of a GET on a connection of its own. */
function ask(port: number): Promise<number | string> {
  return new Promise(resolve => {
    request({ port, host: '127.0.0.1', agent: false }, response => {
      response.resume()
      resolve(response.statusCode!)
    })
      .on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
      .end()
  })
}

test('connections beyond the limit are told to come again, none is reset, and their places are free again', async () => {
  const held: ServerResponse[] = []
  server = createServer((_, response) => void held.push(response))
  limitConnections(server, { isTls: false, most: MOST })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  for (let round = 0; round < 2; round++) {
    const statuses = Array.from({ length: ALL }, () => ask(port))
    await expect.poll(() => held.length).toBe(MOST)
    const refused: (number | string)[] = []
    for (const status of statuses) void status.then(value => refused.push(value))
    await expect.poll(() => refused.length).toBe(ALL - MOST)
    expect(new Set(refused)).toEqual(new Set([429]))
    for (const response of held.splice(0)) response.end('ok')
    expect((await Promise.all(statuses)).filter(status => status === 200)).toHaveLength(MOST)
  }
})

test('the limit leaves files for models and peers', () => {
  expect(connectionsFor({ limit: 64, open: 33 })).toBe(9)
  expect(connectionsFor({ limit: 40, open: 38 })).toBe(4)
  expect(connectionsFor({ limit: 1024, open: 40 })).toBe(460)
  for (const limit of [20_000, Number.POSITIVE_INFINITY])
    expect(connectionsFor({ limit, open: 40 })).toBe(1024)
})
