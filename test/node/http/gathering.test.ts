import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { createClient } from '../../../node/client/index.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, fakeNode, RESULT } from './fake-node.ts'

const TEXTS = 20
const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

/** Texts one after the other, as of a model. */
async function* tokens(): AsyncGenerator<GenerateEvent> {
  yield* ANSWER.slice(0, 2)
  for (let id = 0; id < TEXTS; id++) {
    await sleep(2)
    yield { type: 'text', text: `${id} `, tokens: [id], logprobs: [] }
  }
  yield { type: 'done', result: RESULT }
}

async function serve(): Promise<string> {
  const server = await startHttpServer({ node: fakeNode(() => tokens()), host: '127.0.0.1', port: 0 })
  servers.push(server)
  return server.url
}

const asked = (url: string, gatherMs: string) =>
  fetch(`${url}/api/generate?gatherMs=${gatherMs}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input: { kind: 'raw', text: 'x' } })
  })

test('whoever asks for it gets an answer in few pieces, with all that is in it', async () => {
  const pieces: string[] = []
  const decoder = new TextDecoder()
  const response = await asked(await serve(), '1000')
  for await (const piece of response.body!) pieces.push(decoder.decode(piece, { stream: true }))
  const types = pieces
    .join('')
    .trim()
    .split('\n')
    .map(line => (JSON.parse(line) as GenerateEvent).type)
  expect(types.filter(type => type === 'text')).toHaveLength(TEXTS)
  expect(types.at(-1)).toBe('done')
  expect(pieces.length).toBeLessThan(TEXTS / 2)
})

test('a time that is none, or too long a one, is refused by name', async () => {
  const url = await serve()
  for (const gatherMs of ['-1', '1001', 'x']) {
    const response = await asked(url, gatherMs)
    expect(response.status).toBe(400)
    expect(await response.text()).toContain('gatherMs')
  }
})

test('a client that gathers reads the same events, and asks for no longer than a node gathers', async () => {
  const client = createClient({ url: await serve() })
  const texts: string[] = []
  const request = { input: { kind: 'raw', text: 'x' } } as const
  for await (const event of client.generate(request, { gatherMs: 5_000 }))
    if (event.type === 'text') texts.push(event.text)
  expect(texts).toEqual(Array.from({ length: TEXTS }, (_, id) => `${id} `))
})

test('a stream that says nothing for as long as it is told counts as broken', async () => {
  const client = createClient({ url: await serve() })
  const events = client.changes({ silenceMs: 100 })
  expect((await events.next()).value).toMatchObject({ type: 'mesh' })
  // A node that has nothing to tell says so every 5 s.
  await expect(events.next()).rejects.toMatchObject({ code: 'broken_answer' })
})
