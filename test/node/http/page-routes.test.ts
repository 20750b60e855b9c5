import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { readPage } from '../../../node/http/page-files.ts'
import { fakeNode } from './fake-node.ts'

const MAX_COMPRESSED_BYTES = 60_000
const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(apiKey?: string): Promise<string> {
  const server = await startHttpServer({
    node: fakeNode(),
    host: '127.0.0.1',
    port: 0,
    ...(apiKey !== undefined && { apiKey })
  })
  servers.push(server)
  return server.url
}

describe('the page', () => {
  test('is small, and names no other place', async () => {
    const { files } = await readPage()
    const bodies = [...files.values()].map(({ body }) => body)
    const compressed = bodies.reduce((sum, body) => sum + gzipSync(body).length, 0)
    expect(compressed).toBeLessThan(MAX_COMPRESSED_BYTES)
    const own = [...files].filter(([path]) => !path.startsWith('/page/lib/')).map(([, { body }]) => body)
    const addresses = own.flatMap(body => body.match(/https?:\/\/[\w.]+/g) ?? [])
    // A name space, and examples in comments.
    expect(addresses.filter(found => !/\/\/(www\.w3\.org|127\.0\.0\.1|HOST)/.test(found))).toEqual([])
  })

  test('is one module, of what its modules import and nothing besides', async () => {
    const { files } = await readPage()
    const document = files.get('/')!.body
    const { body } = files.get('/page/main.js')!
    const modules = [...body.matchAll(/^\/\/ (\S+\.ts)$/gm)].map(([, path]) => path!)
    expect(modules.at(-1)).toBe('node/page/main.ts')
    expect(modules).toContain('node/client/index.ts')
    expect(modules.filter(path => /access|node\.ts|home|token-file/.test(path))).toEqual([])
    const libraries = [...body.matchAll(/^import \* as \w+ from '(.+)'$/gm)].map(([, name]) => name!)
    const named = JSON.parse(/<script type="importmap">(.*?)<\/script>/s.exec(document)![1]!) as {
      imports: Record<string, string>
    }
    expect(libraries.sort()).toEqual(Object.keys(named.imports).sort())
    // Each is asked for at once, not when it is come upon.
    for (const path of Object.values(named.imports)) {
      expect(files.has(path)).toBe(true)
      expect(document).toContain(`<link rel="modulepreload" href="${path}" />`)
    }
  })

  test('comes with types, tags and a policy that allows nothing else', async () => {
    const url = await serve()
    const response = await fetch(url)
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    const policy = response.headers.get('content-security-policy')!
    expect(policy).toMatch(/^default-src 'none'; script-src 'self' 'sha256-[\w+/]{43}='; style-src 'self';/)
    expect(policy).not.toMatch(/unsafe|\*|https?:/)
    const etag = response.headers.get('etag')!
    const again = await fetch(url, { headers: { 'if-none-match': etag } })
    expect([again.status, await again.text()]).toEqual([304, ''])
    const script = await fetch(`${url}/page/lib/preact.js`)
    expect(script.headers.get('content-type')).toBe('text/javascript; charset=utf-8')
    expect((await fetch(`${url}/page/style.css`)).headers.get('content-type')).toBe('text/css; charset=utf-8')
  })

  test('needs no key, but gives nothing of the node without one, and nothing under a foreign name', async () => {
    const url = await serve('secret')
    expect((await fetch(url)).status).toBe(200)
    expect((await fetch(`${url}/api/mesh`)).status).toBe(401)
    expect((await fetch(`${url}/api/plan`)).status).toBe(401)
    expect((await fetch(`${url}/page/..%2f..%2fpackage.json`)).status).toBe(401)
    for (const path of ['/page/package.json', '/page/node/node.ts', '/page/lib/../style.css/x']) {
      expect((await fetch(`${url}${path}`, { headers: { authorization: 'Bearer secret' } })).status).toBe(404)
    }
  })
})
