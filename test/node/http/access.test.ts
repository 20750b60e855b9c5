import { request } from 'node:http'
import { connect } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { newApiToken } from '../../../node/api-file.ts'
import { type HttpServer, type HttpServerInit, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { endless, fakeNode } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(init: Partial<Omit<HttpServerInit, 'node'>> = {}): Promise<URL> {
  const server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0, ...init })
  servers.push(server)
  return new URL(server.url)
}

/** Status of a GET with exactly these headers, which fetch would not let us choose. */
function get(url: URL, path: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    request(new URL(path, url), { headers }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

/** The same for another method. */
function status(url: URL, method: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    request(new URL('/v1/models', url), { method, headers }, response => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

async function post(
  url: URL,
  body: string,
  path = '/v1/chat/completions'
): Promise<{ status: number; error: OpenAiError }> {
  const response = await fetch(new URL(path, url), { method: 'POST', body })
  const { error } = (await response.json()) as { error: OpenAiError }
  return { status: response.status, error }
}

/** Status line of a POST that says nothing of a body, as curl sends it. */
function postNothing(url: URL, path: string, headers = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(url.port), url.hostname)
    socket.on('error', reject).once('data', data => {
      resolve(data.toString().split('\r\n')[0]!)
      socket.destroy()
    })
    socket.write(`POST ${path} HTTP/1.1\r\nHost: ${url.host}\r\n${headers}\r\n`)
  })
}

interface OpenAiError {
  message: string
  type: string
  param: string | null
  code: string | null
}

describe('names and origins', () => {
  test('this device’s names are answered, others are not', async () => {
    const url = await serve()
    for (const host of [url.host, `localhost:${url.port}`, 'LOCALHOST', `[::1]:${url.port}`]) {
      expect([host, await get(url, '/api/mesh', { host })]).toEqual([host, 200])
    }
    for (const host of ['evil.example', `evil.example:${url.port}`, '127.0.0.1.evil.example', '10.0.0.1']) {
      expect([host, await get(url, '/api/mesh', { host })]).toEqual([host, 403])
      expect([host, await get(url, '/', { host })]).toEqual([host, 403])
    }
  })

  test('pages from elsewhere are refused', async () => {
    const url = await serve()
    const { host } = url
    expect(await get(url, '/api/mesh', { host, origin: `http://${host}` })).toBe(200)
    for (const origin of [
      'http://evil.example',
      'null',
      'http://localhost.evil.example',
      'http://127.0.0.1.evil.example',
      `http://${host}.evil.example`,
      'chrome-extension://abc',
      'file://'
    ]) {
      expect([origin, await get(url, '/api/mesh', { host, origin })]).toEqual([origin, 403])
    }
    expect(await get(url, '/api/invite', { host, 'sec-fetch-site': 'cross-site' })).toBe(403)
  })
})

describe('what is allowed besides', () => {
  const token = newApiToken()
  const ask = async (url: URL, path: string, init: RequestInit = {}) => {
    const response = await fetch(new URL(path, url), init)
    await response.arrayBuffer()
    return response
  }

  test.each([
    'http://localhost:3000',
    'https://localhost',
    'http://127.0.0.1:1',
    'tauri://localhost',
    'app://obsidian.md'
  ])('pages of %s may use the API, and read why not', async origin => {
    const url = await serve({ token })
    const answer = await ask(url, '/v1/models', { headers: { origin } })
    expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([200, origin])
    expect(answer.headers.get('access-control-allow-credentials')).toBeNull()
    const unknown = await ask(url, '/v1/models/huge', { headers: { origin } })
    expect([unknown.status, unknown.headers.get('access-control-allow-origin')]).toEqual([404, origin])
    // Not with the token either: what has power over the mesh is for programs.
    const powerful = await ask(url, '/api/invite', { headers: { origin, 'x-edgeshard-token': token } })
    expect(powerful.status).toBe(403)
  })

  test.each([
    ['/v1/embeddings', { model: 'tiny', input: 'hi', frobnicate: 1 }, ['ignored', 'pooling']],
    ['/v1/completions', { model: 'tiny', prompt: 'hi', frobnicate: 1 }, ['ignored', 'plan', 'predicted']]
  ])('they read every header that %s answers with', async (path, body, names) => {
    const url = await serve({ token })
    const headers = { origin: 'http://localhost:3000', 'content-type': 'application/json' }
    const answer = await ask(url, path, { method: 'POST', headers, body: JSON.stringify(body) })
    const exposed = answer.headers.get('access-control-expose-headers')!.split(', ')
    const own = [...answer.headers.keys()].filter(name => name.startsWith('x-edgeshard-'))
    expect(own).toEqual(expect.arrayContaining(names.map(name => `x-edgeshard-${name}`)))
    expect(exposed).toEqual(expect.arrayContaining(own))
  })

  test('a browser asks first, before it sends a key', async () => {
    const url = await serve({ apiKey: 'k', allowOrigins: ['https://chat.example'] })
    const preflight = (origin: string) =>
      ask(url, '/v1/chat/completions', {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'authorization, content-type'
        }
      })
    const allowed = await preflight('https://chat.example')
    expect(allowed.status).toBe(204)
    expect(Object.fromEntries(allowed.headers)).toMatchObject({
      'access-control-allow-origin': 'https://chat.example',
      'access-control-allow-headers': 'authorization, content-type',
      'access-control-allow-methods': expect.stringContaining('POST'),
      vary: 'Origin'
    })
    expect((await preflight('https://evil.example')).status).toBe(403)
    // Under any name, as the request itself may come under any with the key.
    expect(
      await status(url, 'OPTIONS', {
        host: 'box.lan',
        origin: 'https://chat.example',
        'access-control-request-method': 'POST'
      })
    ).toBe(204)
    const refused = await ask(url, '/v1/models', { headers: { origin: 'https://chat.example' } })
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([
      401,
      'https://chat.example'
    ])
  })

  test('any origin and any host, where that was asked for', async () => {
    const url = await serve({ allowOrigins: ['*'], allowHosts: ['*'] })
    const { host } = url
    expect(await get(url, '/v1/models', { host, origin: 'https://any.example' })).toBe(200)
    expect(await get(url, '/v1/models', { host: 'any.example' })).toBe(200)
  })

  test('containers know the device by a name of their own, others are named', async () => {
    const url = await serve({ allowHosts: ['Box.lan'] })
    expect(await get(url, '/v1/models', { host: 'host.docker.internal:7447' })).toBe(200)
    expect(await get(url, '/v1/models', { host: 'box.lan' })).toBe(200)
    expect(await get(url, '/v1/models', { host: 'other.lan' })).toBe(403)
  })

  test('what can be no origin or host is refused at the start', async () => {
    await expect(serve({ allowOrigins: ['localhost:3000'] })).rejects.toThrow('no origin')
    await expect(serve({ allowHosts: ['http://box.lan'] })).rejects.toThrow('no host')
  })
})

describe('paths and methods', () => {
  test.each([
    ['GET', '/health', 200],
    ['HEAD', '/health', 200],
    ['HEAD', '/v1/models', 200],
    ['GET', '/models', 200],
    ['GET', '//v1/models/', 200],
    ['GET', '/v1/nothing', 404]
  ])('%s %s: %i', async (method, path, status) => {
    const url = await serve()
    const response = await fetch(`${url.origin}${path}`, { method })
    expect(response.status).toBe(status)
    expect(response.headers.get('x-request-id')).toMatch(/^[\w-]{36}$/)
  })

  test('/health needs no key', async () => {
    const url = await serve({ apiKey: 'k' })
    expect(await get(url, '/health')).toBe(200)
    expect(await get(url, '/models')).toBe(401)
  })

  test('another method is named with those that there are', async () => {
    const url = await serve()
    for (const [method, path, allow] of [
      ['GET', '/v1/chat/completions', 'POST'],
      ['DELETE', '/v1/models', 'GET, HEAD'],
      ['PUT', '/v1/messages', 'POST'],
      ['POST', '/api/tags', 'GET, HEAD']
    ] as const) {
      const response = await fetch(new URL(path, url), { method })
      expect([path, response.status, response.headers.get('allow')]).toEqual([path, 405, allow])
    }
  })

  test('a request is called what its client calls it', async () => {
    const url = await serve()
    const asked = async (id: string) => {
      const response = await fetch(new URL('/v1/chat/completions', url), {
        method: 'POST',
        headers: { 'x-request-id': id },
        body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }] })
      })
      await response.arrayBuffer()
      return response.headers.get('x-request-id')
    }
    expect(await asked('trace-1')).toBe('trace-1')
    expect(await asked('a b')).toMatch(/^[\w-]{36}$/)
  })
})

describe('bodies in another encoding', () => {
  const body = (content: string, encoding: BufferEncoding) =>
    Buffer.from(JSON.stringify({ messages: [{ role: 'user', content }] }), encoding)
  const send = async (bytes: Buffer, headers: Record<string, string> = {}) => {
    const url = await serve()
    const response = await fetch(new URL('/v1/chat/completions', url), {
      method: 'POST',
      body: new Uint8Array(bytes),
      headers
    })
    return [response.status, ((await response.json()) as { error?: OpenAiError }).error?.message]
  }

  test('are refused, a byte order mark is passed over', async () => {
    expect(await send(body('Grüße', 'latin1'))).toEqual([400, 'the body is not UTF-8'])
    expect(await send(body('x', 'utf8'), { 'content-type': 'application/json; charset=ISO-8859-1' })).toEqual(
      [400, expect.stringContaining('ISO-8859-1')]
    )
    expect(await send(body('x', 'utf8'), { 'content-encoding': 'gzip' })).toEqual([
      415,
      expect.stringContaining('not decompressed')
    ])
    expect((await send(Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), body('Grüße', 'utf8')])))[0]).toBe(200)
  })
})

describe('API key', () => {
  test('without it nothing is answered', async () => {
    const url = await serve({ apiKey: 'secret-1' })
    expect(await get(url, '/v1/models')).toBe(401)
    expect(await get(url, '/v1/models', { authorization: 'Bearer secret-2' })).toBe(401)
    expect(await get(url, '/v1/models', { authorization: 'secret-1' })).toBe(401)
    expect(await get(url, '/v1/models', { authorization: 'Bearer secret-1' })).toBe(200)
    expect(await get(url, '/v1/models', { 'x-api-key': 'secret-1' })).toBe(200)
    expect(await get(url, '/v1/models', { 'x-api-key': 'secret-2' })).toBe(401)
  })

  test('several have a key each, with conversations of their own, and a limit where it has one', async () => {
    const node = fakeNode((_, signal) => endless(signal, 'x'))
    const server = await startHttpServer({
      node,
      host: '127.0.0.1',
      port: 0,
      apiKeys: [
        { name: 'ann', key: 'k-ann', atOnce: 1, priority: 'low' },
        { name: 'bob', key: 'k-bob' }
      ]
    })
    servers.push(server)
    const ask = (key: string) =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }], user: 'u', stream: true })
      })
    const first = await ask('k-ann')
    expect(first.status).toBe(200)
    const second = await ask('k-ann')
    expect([second.status, second.headers.get('retry-after')]).toEqual([429, '1'])
    expect(await second.text()).toContain('1 answers under way for the key \\"ann\\"')
    const other = await ask('k-bob')
    expect(other.status).toBe(200)
    expect((await ask('k-eve')).status).toBe(401)
    expect(node.asked.map(({ conversation }) => conversation)).toEqual(['ann\nu', 'bob\nu'])
    expect(node.asked.map(({ priority }) => priority)).toEqual(['low', 'normal'])
    // A body that says otherwise is nobody's key.
    const vain = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: 'Bearer k-bob' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }], priority: 'high', stream: true })
    })
    await vain.body?.cancel()
    expect(node.asked.filter(({ priority }) => priority === 'high')).toEqual([])
    // What it does not name is its own all the same.
    const nameless = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: 'Bearer k-bob' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'x' }], stream: true })
    })
    expect(node.asked.at(-1)!.conversation).toBe('bob\n')
    await nameless.body!.cancel()
    await first.body!.cancel()
    await expect.poll(async () => (await ask('k-ann')).status, { timeout: deadlineMs(5_000) }).toBe(200)
    await other.body!.cancel()
  })

  test('an address that others reach needs one', async () => {
    await expect(serve({ host: '0.0.0.0' })).rejects.toThrow('give an API key')
    await expect(serve({ apiKey: '' })).rejects.toThrow('empty')
    const url = await serve({ host: '0.0.0.0', apiKey: 'k' })
    const headers = { authorization: 'Bearer k', host: `127.0.0.1:${url.port}` }
    expect(await get(new URL(`http://127.0.0.1:${url.port}`), '/v1/models', headers)).toBe(200)
    // Who has the key needs no rebinding; who has none gets nothing by it.
    const any = { ...headers, host: 'box.lan' }
    expect(await get(new URL(`http://127.0.0.1:${url.port}`), '/v1/models', any)).toBe(200)
    const foreign = { authorization: 'Bearer no', host: 'box.lan' }
    expect(await get(new URL(`http://127.0.0.1:${url.port}`), '/v1/models', foreign)).toBe(403)
  })
})

describe('what has power over the mesh', () => {
  const token = newApiToken()
  const paths = ['/api/invite', '/api/membership/bans']

  test('asks for the token of the home, on loopback too, and with an API key besides', async () => {
    for (const init of [{}, { apiKey: 'k' }]) {
      const url = await serve({ token, ...init })
      const key = { authorization: 'Bearer k' }
      for (const path of paths) {
        expect(await get(url, path, key)).toBe(401)
        expect(await get(url, path, { ...key, 'x-edgeshard-token': newApiToken() })).toBe(401)
        expect(await get(url, path, { authorization: `Bearer ${token}` })).toBe(401)
        expect(await get(url, path, { 'x-edgeshard-token': token })).toBe(200)
      }
    }
  })

  test('is refused to everybody where the server has no token', async () => {
    const url = await serve()
    for (const path of paths) {
      expect(await get(url, path)).toBe(401)
      expect(await get(url, path, { 'x-edgeshard-token': '' })).toBe(401)
      expect(await get(url, path, { 'x-edgeshard-token': 'undefined' })).toBe(401)
    }
  })

  test('opens what an API key opens, for programs of this device', async () => {
    const url = await serve({ token, apiKey: 'k' })
    expect(await get(url, '/v1/models', { 'x-edgeshard-token': token })).toBe(200)
    expect(await get(url, '/v1/models', { 'x-edgeshard-token': `${token}0` })).toBe(401)
  })
})

describe('behind a proxy', () => {
  const token = newApiToken()
  const forwarded = [
    { 'x-forwarded-for': '203.0.113.9' },
    { 'X-Forwarded-For': '' },
    { forwarded: 'for=203.0.113.9' },
    { via: '1.1 proxy' },
    { 'x-real-ip': '203.0.113.9' },
    { 'x-forwarded-proto': 'https' }
  ]

  test.each(forwarded)('%j: nobody is local, token or not', async headers => {
    const url = await serve({ token, apiKey: 'k' })
    const key = { authorization: 'Bearer k', ...headers }
    expect(await get(url, '/api/invite', { ...key, 'x-edgeshard-token': token })).toBe(403)
    expect(await get(url, '/v1/models', key)).toBe(200)
    expect(await get(url, '/v1/models', headers)).toBe(401)
  })

  test.each(forwarded)('%j: without an API key nothing is answered', async headers => {
    const url = await serve({ token })
    expect(await get(url, '/v1/models', headers)).toBe(403)
    expect(await get(url, '/v1/models')).toBe(200)
  })
})

test('a taken port makes way for the next', async () => {
  const first = await serve()
  const second = await serve({ port: Number(first.port) })
  expect(Number(second.port)).toBeGreaterThan(Number(first.port))
  expect(await get(second, '/api/mesh')).toBe(200)
})

describe('bad requests', () => {
  const messages = [{ role: 'user', content: 'x' }]
  test.each([
    ['no JSON', '{', null, 'not JSON'],
    ['not an object', '[]', null, 'expected object'],
    ['no messages', {}, 'messages', 'messages'],
    ['empty messages', { messages: [] }, 'messages', '>=1'],
    ['a strange role', { messages: [{ role: 'root', content: 'x' }] }, 'messages.0.role', 'role'],
    [
      'an image',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      'messages.0.content',
      'content'
    ],
    ['negative temperature', { messages, temperature: -1 }, 'temperature', '>=0'],
    ['temperature as text', { messages, temperature: '1' }, 'temperature', 'number'],
    ['top_p above one', { messages, top_p: 1.5 }, 'top_p', '<=1'],
    ['fewer than no tokens', { messages, max_tokens: -2 }, 'max_tokens', '>=-1'],
    ['absurdly many tokens', { messages, max_tokens: 1e12 }, 'max_tokens', '<='],
    ['half a token', { messages, max_tokens: 1.5 }, 'max_tokens', 'int'],
    ['a seed beyond integers', { messages, seed: 1e300 }, 'seed', 'seed'],
    ['too many answers', { messages, n: 129 }, 'n', '<=128'],
    ['the best of several', { messages, n: 1, best_of: 2 }, 'best_of', 'not supported'],
    ['too many stop strings', { messages, stop: Array(17).fill('x') }, 'stop', 'stop'],
    ['tools of a server', { messages, tools: [{ type: 'web_search' }] }, 'tools', 'only functions'],
    ['too much of a penalty', { messages, presence_penalty: 2.5 }, 'presence_penalty', '<=2'],
    ['top_logprobs alone', { messages, top_logprobs: 3 }, 'top_logprobs', 'needs'],
    ['a model name without end', { messages, model: 'x'.repeat(10_000) }, 'model', '<=512']
  ])('%s', async (_, body, param, message) => {
    const url = await serve()
    const refused = await post(url, typeof body === 'string' ? body : JSON.stringify(body))
    expect(refused.status).toBe(400)
    expect(refused.error.type).toBe('invalid_request_error')
    expect(refused.error.message).toContain(message)
    if (param === null) expect(refused.error.param).toBeNull()
    else expect(refused.error.param).toMatch(new RegExp(`^${param.replaceAll('.', '\\.')}`))
  })

  test('unknown fields and nulls are passed over', async () => {
    const url = await serve()
    const body = JSON.stringify({
      messages,
      user: 'me',
      wild: [1],
      temperature: null,
      stop: null,
      n: 1,
      tools: []
    })
    expect((await fetch(new URL('/v1/chat/completions', url), { method: 'POST', body })).status).toBe(200)
  })

  test('a body without end is refused before it is read', async () => {
    const url = await serve()
    const huge = JSON.stringify({ messages: [{ role: 'user', content: 'x'.repeat(9 << 20) }] })
    expect((await post(url, huge)).status).toBe(413)
    const endless = new ReadableStream({
      pull: controller => controller.enqueue(new Uint8Array(1 << 20).fill(32))
    })
    const chunked = { method: 'POST', body: endless, duplex: 'half' } as RequestInit
    // The server answers and closes while we still send: either the answer or the closed connection is seen.
    const status = await fetch(new URL('/v1/chat/completions', url), chunked).then(
      response => response.status,
      () => 413
    )
    expect(status).toBe(413)
  })

  test('a body of unknown length is read', async () => {
    const url = await serve()
    const body = new Blob([JSON.stringify({ messages })]).stream()
    const chunked = { method: 'POST', body, duplex: 'half' } as RequestInit
    expect((await fetch(new URL('/v1/chat/completions', url), chunked)).status).toBe(200)
  })

  test('a POST without a body is a bad request, and enough for an invitation', async () => {
    const token = newApiToken()
    const url = await serve({ token })
    expect(await postNothing(url, '/v1/chat/completions')).toBe('HTTP/1.1 400 Bad Request')
    expect(await postNothing(url, '/api/invite', `x-edgeshard-token: ${token}\r\n`)).toBe('HTTP/1.1 200 OK')
  })

  test('a list nested without end is a bad request and no crash', async () => {
    const url = await serve()
    expect((await post(url, '['.repeat(1 << 20))).status).toBe(400)
    expect((await post(url, `${'['.repeat(1 << 18)}${']'.repeat(1 << 18)}`)).status).toBe(400)
  })

  test('paths that are not there say which are', async () => {
    const url = await serve()
    const response = await fetch(new URL('/v2/chat', url))
    expect(response.status).toBe(404)
    expect(((await response.json()) as { error: OpenAiError }).error.message).toContain(
      '/v1/chat/completions'
    )
  })
})
