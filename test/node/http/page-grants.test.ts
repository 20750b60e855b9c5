import { afterEach, expect, test } from 'vitest'
import { newApiToken } from '../../../node/api-file.ts'
import { createClient } from '../../../node/client/index.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { CODE_MS, GRANT_MS, PageGrants } from '../../../node/http/page-grants.ts'
import { fakeNode, OPEN_PAIRING } from './fake-node.ts'

const TOKEN = newApiToken()
const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(apiKey?: string): Promise<string> {
  const node = fakeNode()
  const pairing = { ...node.pairing, state: OPEN_PAIRING }
  const init = { node: { ...node, pairing }, host: '127.0.0.1', port: 0, token: TOKEN }
  const server = await startHttpServer({ ...init, ...(apiKey !== undefined && { apiKey }) })
  servers.push(server)
  return server.url
}

test('a code is taken once, for five minutes, and only the newest', () => {
  let nowMs = 0
  const grants = new PageGrants(() => nowMs)
  const first = grants.newCode()
  expect(first).toEqual({
    code: expect.stringMatching(/^[0-9a-hjkmnp-tv-z]{5}-[0-9a-hjkmnp-tv-z]{5}$/),
    leftMs: CODE_MS
  })
  const second = grants.newCode().code
  expect(grants.take(first.code)).toBeUndefined()
  expect(grants.take('')).toBeUndefined()
  expect(grants.take(second)).toEqual({ grant: expect.stringMatching(/^[0-9a-f]{64}$/), leftMs: GRANT_MS })
  expect(grants.take(second)).toBeUndefined()
  const late = grants.newCode().code
  nowMs += CODE_MS
  expect(grants.take(late)).toBeUndefined()
})

test('a code may be typed as people read it', () => {
  const grants = new PageGrants()
  const { code } = grants.newCode()
  const typed = ` ${code.toUpperCase().replace('-', ' ').replace(/0/g, 'O').replace(/1/g, 'l')} `
  expect(grants.take(typed)).toBeDefined()
})

test('a grant ends after half an hour, or when eight newer ones are there', () => {
  let nowMs = 0
  const grants = new PageGrants(() => nowMs)
  const given = () => grants.take(grants.newCode().code)!.grant
  const [oldest, ...newer] = Array.from({ length: 9 }, given)
  expect(grants.allows(oldest!)).toBe(false)
  expect(newer.map(grant => grants.allows(grant))).toEqual(newer.map(() => true))
  nowMs += GRANT_MS
  expect(grants.allows(newer[7]!)).toBe(false)
})

test('only who may read the home has a code made, and the grant for it opens pairing and nothing else', async () => {
  const url = await serve()
  const stranger = createClient({ url })
  await expect(stranger.pageCode()).rejects.toMatchObject({ code: 'token_required' })
  await expect(stranger.openPairing()).rejects.toMatchObject({ code: 'token_required' })
  await expect(stranger.pageGrant('00000-00000')).rejects.toMatchObject({
    code: 'page_code_unusable',
    status: 403
  })

  const { code } = await createClient({ url, token: TOKEN }).pageCode()
  const { grant } = await stranger.pageGrant(code)
  const page = createClient({ url, token: grant })
  expect(await page.openPairing()).toEqual(OPEN_PAIRING)
  expect(await page.pairing()).toEqual(OPEN_PAIRING)
  expect(await page.joinCommand()).toEqual({
    command: 'npx edgeshard join --peer 127.0.0.1:7448',
    qr: { size: expect.any(Number), path: expect.stringMatching(/^(M\d+ \d+h\d+v1H\d+z)+$/) }
  })
  expect(await page.closePairing()).toMatchObject({ open: false })
  for (const refused of [page.pageCode(), page.invite(), page.membership(), page.rotate(), page.drain()]) {
    await expect(refused).rejects.toMatchObject({ code: 'token_required' })
  }
})

test('neither a page of another origin nor what a proxy passes on gets a grant, or may use one', async () => {
  const url = await serve()
  const owner = createClient({ url, token: TOKEN })
  const { grant } = await owner.pageGrant((await owner.pageCode()).code)
  const { code } = await owner.pageCode()
  const asked = async (path: string, headers: Record<string, string>) => {
    const response = await fetch(`${url}${path}`, { method: 'POST', headers, body: JSON.stringify({ code }) })
    return ((await response.json()) as { error?: { code: string } }).error?.code
  }
  const foreign = { origin: 'http://localhost:3000' }
  expect(await asked('/api/page/grant', foreign)).toBe('foreign_origin')
  expect(await asked('/api/pairing', { ...foreign, 'x-edgeshard-token': grant })).toBe('foreign_origin')
  const forwarded = { 'x-forwarded-for': '192.0.2.1' }
  expect(await asked('/api/page/grant', forwarded)).toBe('local_only')
  expect(await asked('/api/pairing', { ...forwarded, 'x-edgeshard-token': grant })).toBe('local_only')
  // The code is still good for who may show it.
  expect(await asked('/api/page/grant', { origin: url })).toBeUndefined()
})

test('a grant takes the place of no API key', async () => {
  const url = await serve('secret')
  const { code } = await createClient({ url, token: TOKEN }).pageCode()
  await expect(createClient({ url }).pageGrant(code)).rejects.toMatchObject({ code: 'invalid_api_key' })
  const { grant } = await createClient({ url, apiKey: 'secret' }).pageGrant(code)
  await expect(createClient({ url, token: grant }).pairing()).rejects.toMatchObject({
    code: 'invalid_api_key'
  })
  expect(await createClient({ url, apiKey: 'secret', token: grant }).pairing()).toEqual(OPEN_PAIRING)
})
