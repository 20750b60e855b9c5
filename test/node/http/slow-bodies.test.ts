import { connect } from 'node:net'
import { expect, test, vi } from 'vitest'
import { startHttpServer } from '../../../node/http/index.ts'
import { fakeNode } from './fake-node.ts'

vi.mock('../../../node/http/constants.ts', async importOriginal => ({
  ...(await importOriginal<typeof import('../../../node/http/constants.ts')>()),
  BODY_SILENCE_MS: 1000
}))

test('clients that send half a request each are closed one by one, and others are answered meanwhile', async () => {
  const CALLERS = 200
  const server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
  const { hostname, port, host } = new URL(server.url)
  const ended: string[] = []
  const closed: Promise<void>[] = []
  for (let i = 0; i < CALLERS; i++) {
    const socket = connect(Number(port), hostname)
    let said = ''
    socket.on('data', data => {
      said += data
    })
    socket.on('error', () => {})
    closed.push(
      new Promise(resolve => socket.on('close', () => resolve(void ended.push(said.split('\r\n')[0]!))))
    )
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 5000000\r\nContent-Type: application/json\r\n\r\n{`
    )
  }
  const models = await fetch(new URL('/v1/models', server.url))
  expect(models.status).toBe(200)
  await Promise.all(closed)
  expect(ended).toHaveLength(CALLERS)
  expect(new Set(ended)).toEqual(new Set(['HTTP/1.1 408 Request Timeout']))
  expect((await fetch(new URL('/v1/models', server.url))).status).toBe(200)
  await server.stop()
})
