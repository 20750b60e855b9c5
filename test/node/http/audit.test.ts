import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { RequestError } from '../../../node/errors.ts'
import type { AuditEntry } from '../../../node/http/audit.ts'
import { AuditLog } from '../../../node/http/audit-log.ts'
import { type HttpServer, type HttpServerInit, startHttpServer } from '../../../node/http/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { ANSWER, endless, type FakeNode, fakeNode, type Generate, replay } from './fake-node.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
const servers: HttpServer[] = []
beforeEach(async () => {
  folder = await temporaryFolder()
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
  await folder[Symbol.asyncDispose]()
})

/** Entries of a server's answers, and a way to ask for one. */
async function audited(generate: Generate, init: Partial<HttpServerInit> = {}) {
  const entries: AuditEntry[] = []
  const written = Promise.withResolvers<AuditEntry>()
  const audit = {
    write: (entry: AuditEntry) => {
      entries.push(entry)
      written.resolve(entry)
    }
  }
  const server = await startHttpServer({
    node: fakeNode(generate),
    host: '127.0.0.1',
    port: 0,
    audit,
    ...init
  })
  servers.push(server)
  const ask = (headers: Record<string, string> = {}, body: object = {}, signal?: AbortSignal) =>
    fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'a secret question' }], ...body }),
      ...(signal !== undefined && { signal })
    })
  return { entries, written: written.promise, ask }
}

describe('the entry of an answer', () => {
  test('says by whom it was asked for and what computed it, and nothing of what was said', async () => {
    const { entries, ask } = await audited(() => replay(ANSWER), {
      apiKeys: [
        { name: 'line-3', key: 'k3' },
        { name: 'line-4', key: 'k4' }
      ]
    })
    const headers = { authorization: 'Bearer k4', 'x-request-id': 'r-1' }
    await (await ask(headers, { model: 'tiny\u001b' })).text()
    expect(entries).toEqual([
      {
        at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        requestId: 'r-1',
        source: { peerId: expect.any(String), name: 'desk' },
        client: expect.stringMatching(/127\.0\.0\.1$/),
        key: 'line-4',
        model: 'tiny ',
        promptTokens: 4,
        tokens: 3,
        devices: [
          { peerId: '12D3KooWSelf', name: 'desk' },
          { peerId: '12D3KooWOther', name: 'lap\ntop' }
        ],
        outcome: 'stop',
        ms: expect.any(Number)
      }
    ])
    const text = JSON.stringify(entries)
    for (const said of ['secret', 'Hello', 'k4"', '🦙']) expect(text).not.toContain(said)
  })

  test('is there for one whose client goes away, with the tokens until then', async () => {
    const { written, ask } = await audited((_, signal) => endless(signal, 'ha'))
    const leaving = new AbortController()
    const response = await ask({}, { stream: true }, leaving.signal)
    await response.body!.getReader().read()
    leaving.abort()
    const entry = await written
    expect(entry).toMatchObject({ outcome: 'cancelled', key: null, model: null })
    expect(entry.tokens).toBeGreaterThan(0)
  })

  test('names what ended one that failed', async () => {
    const { entries, ask } = await audited(async function* () {
      yield ANSWER[1]!
      throw new Error('no')
    })
    await (await ask()).text()
    expect(entries).toMatchObject([
      { outcome: 'internal_error', devices: [{ name: 'desk' }, { name: 'lap\ntop' }] }
    ])
  })
})

describe('the entry of a request for vectors', () => {
  async function embedding(embed?: FakeNode['embed']) {
    const entries: AuditEntry[] = []
    const node = fakeNode()
    if (embed !== undefined) node.embed = embed
    const server = await startHttpServer({
      node,
      host: '127.0.0.1',
      port: 0,
      audit: { write: entry => void entries.push(entry) },
      apiKeys: [{ name: 'line-3', key: 'k3' }]
    })
    servers.push(server)
    const ask = (path: string, signal?: AbortSignal) =>
      fetch(`${server.url}${path}`, {
        method: 'POST',
        headers: { authorization: 'Bearer k3', 'x-request-id': 'r-1' },
        body: JSON.stringify({ model: 'tiny', input: ['a secret', 'another secret'] }),
        ...(signal !== undefined && { signal })
      })
    return { entries, ask }
  }

  test.each(['/v1/embeddings', '/api/embed'])('of %s', async path => {
    const { entries, ask } = await embedding()
    await (await ask(path)).text()
    expect(entries).toEqual([
      {
        at: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
        requestId: 'r-1',
        source: { peerId: expect.any(String), name: 'desk' },
        client: expect.stringMatching(/127\.0\.0\.1$/),
        key: 'line-3',
        model: 'tiny',
        promptTokens: 6,
        tokens: 0,
        devices: [{ peerId: '12D3KooWSelf', name: 'desk' }],
        outcome: 'embedded',
        ms: expect.any(Number)
      }
    ])
    expect(JSON.stringify(entries)).not.toContain('secret')
  })

  test('names what ended it', async () => {
    const { entries, ask } = await embedding(() => Promise.reject(new RequestError('no')))
    expect((await ask('/v1/embeddings')).status).toBe(400)
    expect(entries).toMatchObject([{ outcome: 'invalid_request', devices: [] }])
  })

  test('is there where the client goes away', async () => {
    const begun = Promise.withResolvers<void>()
    const { entries, ask } = await embedding((_, { signal } = {}) => {
      begun.resolve()
      return new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason)))
    })
    const leaving = new AbortController()
    const answer = ask('/v1/embeddings', leaving.signal)
    await begun.promise
    leaving.abort()
    await expect(answer).rejects.toThrow()
    await vi.waitUntil(() => entries.length > 0, { timeout: deadlineMs(1000) })
    expect(entries).toMatchObject([{ outcome: 'cancelled' }])
  })
})

const ENTRY: AuditEntry = {
  at: '2026-01-01T00:00:00.000Z',
  requestId: 'r',
  source: { peerId: 'p', name: 'desk' },
  client: '127.0.0.1',
  key: null,
  model: null,
  promptTokens: 1,
  tokens: 2,
  devices: [],
  outcome: 'stop',
  ms: 3
}

describe('the file', () => {
  test('has one line an answer, for its owner alone, and goes on where it was', async () => {
    const path = join(folder.path, 'audit.log')
    for (const requestId of ['one', 'two']) {
      const log = new AuditLog(path, { totalBytes: 1 << 20 })
      log.write({ ...ENTRY, requestId })
      log.close()
    }
    const lines = (await readFile(path, 'utf8')).trim().split('\n')
    expect(lines.map(line => (JSON.parse(line) as AuditEntry).requestId)).toEqual(['one', 'two'])
    expect((await stat(path)).mode & 0o077).toBe(0)
  })

  test.skipIf(process.platform === 'win32')('that was there is its owner’s alone from then on', async () => {
    const path = join(folder.path, 'audit.log')
    await writeFile(path, 'before\n')
    await chmod(path, 0o644)
    const log = new AuditLog(path, { totalBytes: 1 << 20 })
    log.close()
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readFile(path, 'utf8')).toBe('before\n')
  })

  test('and those put aside take no more than they may: the newest lines stay', async () => {
    const path = join(folder.path, 'audit.log')
    const lineBytes = Buffer.byteLength(`${JSON.stringify({ ...ENTRY, requestId: '1000' })}\n`)
    const totalBytes = 10 * (2 * lineBytes + 1)
    const log = new AuditLog(path, { totalBytes })
    for (let i = 1000; i < 1045; i++) log.write({ ...ENTRY, requestId: String(i) })
    log.close()
    const names = (await readdir(folder.path)).sort()
    expect(names).toEqual(['audit.log', ...Array.from({ length: 9 }, (_, at) => `audit.log.${at + 1}`)])
    const texts = await Promise.all(names.map(name => readFile(join(folder.path, name), 'utf8')))
    expect(texts.join('').length).toBeLessThanOrEqual(totalBytes)
    const ids = texts.flatMap(text =>
      text
        .trim()
        .split('\n')
        .map(line => Number((JSON.parse(line) as AuditEntry).requestId))
    )
    expect(ids.toSorted()).toEqual(Array.from({ length: 19 }, (_, at) => 1026 + at))
  })

  test('that cannot be opened is an error at the start, not in an answer', async () => {
    expect(() => new AuditLog(folder.path, { totalBytes: 1 << 20 })).toThrow(/EISDIR/)
  })
})
