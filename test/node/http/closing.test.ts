import { connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, endless, fakeNode, type Generate, replay } from './fake-node.ts'

const servers: HttpServer[] = []
const sockets: Socket[] = []
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(generate?: Generate): Promise<HttpServer> {
  const server = await startHttpServer({ node: fakeNode(generate), host: '127.0.0.1', port: 0 })
  servers.push(server)
  return server
}

const messages = [{ role: 'user', content: 'hi' }]
const post = ({ url }: HttpServer, path: string, body: object) =>
  fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify({ model: 'tiny', messages, ...body }) })

/** A body that has begun; `rest` resolves with the rest. */
async function begun(response: Response): Promise<{ rest: Promise<string> }> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  await reader.read()
  const readAll = async () => {
    let text = ''
    for (;;) {
      const { value, done } = await reader.read()
      if (done) return text
      text += value
    }
  }
  return { rest: readAll() }
}

const STREAMS = [
  ['/v1/chat/completions', { stream: true }, /(^|\n)data: \{"error":\{.*"code":"stopping"\}\}\n\n$/],
  ['/api/chat', {}, /(^|\n)\{"error":"this node is being switched off.*"\}\n$/],
  [
    '/api/generate',
    { input: { kind: 'raw', text: 'x' } },
    /(^|\n)\{"type":"error","status":503,"error":\{.*\}\}\n$/
  ]
] as const

describe('a server that stops', () => {
  test.each(STREAMS)('ends a stream of %s with an error as its last word', async (path, body, last) => {
    const server = await serve((_, signal) => endless(signal, 'ha'))
    const { rest } = await begun(await post(server, path, body))
    await server.stop()
    expect(await rest).toMatch(last)
    expect(await rest).not.toContain('[DONE]')
  })

  test('ends an answer that is sent whole with status 503', async () => {
    const server = await serve((_, signal) => endless(signal, 'ha'))
    const answer = post(server, '/v1/chat/completions', {})
    await expect.poll(() => server.running).toBe(1)
    await server.stop()
    const response = await answer
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.json()).toMatchObject({ error: { code: 'stopping', type: 'server_error' } })
  })

  test('waits for no follower of the mesh, and for no client that reads nothing', async () => {
    const server = await serve((_, signal) => endless(signal, 'x'.repeat(1 << 16)))
    const { rest } = await begun(await fetch(`${server.url}/api/events`))
    const url = new URL(server.url)
    const socket = connect(Number(url.port), url.hostname).on('error', () => {})
    sockets.push(socket)
    const body = JSON.stringify({ messages, stream: true })
    socket.pause()
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nHost: ${url.host}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    )
    await server.drain(0)
    await server.stop()
    expect(await rest).not.toContain('error')
  })
})

describe('a server that drains', () => {
  test('lets an answer come to its end and refuses new ones, which hear why', async () => {
    const { promise: more, resolve: goOn } = Promise.withResolvers<void>()
    const server = await serve(async function* () {
      yield* replay(ANSWER.slice(0, 3))
      await more
      yield* replay(ANSWER.slice(3))
    })
    const { rest } = await begun(await post(server, '/v1/chat/completions', { stream: true }))
    let drained = false
    const draining = server.drain(600_000).then(() => {
      drained = true
    })
    const refused = await post(server, '/v1/chat/completions', {})
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await refused.json()).toMatchObject({ error: { code: 'stopping' } })
    expect((await fetch(`${server.url}/api/mesh`)).status).toBe(200)
    const follower = await fetch(`${server.url}/api/events`)
    expect(follower.status).toBe(200)
    await follower.body!.cancel()
    expect(drained).toBe(false)
    goOn()
    await draining
    await server.stop()
    expect(await rest).toMatch(/"finish_reason":"stop".*\n\ndata: \[DONE\]\n\n$/s)
  })

  test('waits no longer than it is told, or than its signal', async () => {
    const server = await serve((_, signal) => endless(signal, 'ha'))
    const { rest } = await begun(await post(server, '/v1/chat/completions', { stream: true }))
    await server.drain(1)
    await server.drain(600_000, { signal: AbortSignal.abort() })
    expect(server.running).toBe(1)
    await server.stop()
    expect(await rest).toContain('"code":"stopping"')
  })

  test('is done at once where nothing runs', async () => {
    const server = await serve()
    await server.drain(600_000)
    expect((await post(server, '/api/chat', {})).status).toBe(503)
  })
})
