import { afterEach, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { newApiToken } from '../../../node/api-file.ts'
import { PlanRefusedError, StageLostError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { ANSWER, type FakeNode, fakeNode, OPEN_PAIRING, replay } from './fake-node.ts'

const TOKEN = newApiToken()
const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode()): Promise<string> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, token: TOKEN })
  servers.push(server)
  return server.url
}

const raw = JSON.stringify({ input: { kind: 'raw', text: 'Once' }, temperature: 0, unknown: 1 })

function lines(text: string): GenerateEvent[] {
  return text
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as GenerateEvent)
}

test('/api/mesh is the directory', async () => {
  const node = fakeNode()
  const url = await serve(node)
  expect(await (await fetch(`${url}/api/mesh`)).json()).toEqual(node.mesh())
})

test('/api/invite gives a ticket', async () => {
  const url = await serve()
  const headers = { 'x-edgeshard-token': TOKEN }
  expect(await (await fetch(`${url}/api/invite`, { method: 'POST', headers })).json()).toEqual({
    ticket: 'ticket-1'
  })
})

test('/api/pairing is for who may read the home, and opens, shows and closes', async () => {
  const url = await serve()
  const asked = async (method: string, path: string, headers = {}) => {
    const response = await fetch(`${url}/api/pairing${path}`, { method, headers })
    return { status: response.status, body: await response.json() }
  }
  for (const [method, path] of [
    ['GET', ''],
    ['POST', ''],
    ['POST', '/close']
  ] as const) {
    const refused = await asked(method, path)
    expect(refused).toMatchObject({ status: 401, body: { error: { code: 'token_required' } } })
    expect(JSON.stringify(refused)).not.toContain('012345')
  }
  const headers = { 'x-edgeshard-token': TOKEN }
  expect((await asked('GET', '', headers)).body).toEqual({ open: false })
  expect((await asked('POST', '', headers)).body).toEqual(OPEN_PAIRING)
  expect((await asked('POST', '/close', headers)).body).toEqual({ open: false, end: 'closed' })
})

test('/api/generate gives the node’s events one a line', async () => {
  const node = fakeNode()
  const url = await serve(node)
  const response = await fetch(`${url}/api/generate`, { method: 'POST', body: raw })
  expect(response.headers.get('content-type')).toBe('application/x-ndjson')
  expect(lines(await response.text())).toEqual(ANSWER)
  expect(node.asked).toEqual([{ input: { kind: 'raw', text: 'Once' }, temperature: 0 }])
})

test('/api/tokenize gives the ids of a text', async () => {
  const url = await serve()
  const ask = (body: object) => fetch(`${url}/api/tokenize`, { method: 'POST', body: JSON.stringify(body) })
  expect(await (await ask({ text: 'ab' })).json()).toEqual({ tokens: [97, 98] })
  expect((await ask({ text: 3 })).status).toBe(400)
})

test('/api/generate says in its last line what went wrong on the way', async () => {
  const url = await serve(
    fakeNode(async function* () {
      yield* replay(ANSWER.slice(0, 3))
      throw new StageLostError('laptop died', 'peer')
    })
  )
  const response = await fetch(`${url}/api/generate`, { method: 'POST', body: raw })
  const last = lines(await response.text()).at(-1)
  expect(last).toMatchObject({
    type: 'error',
    status: 502,
    error: { message: 'laptop died', code: 'stage_lost' }
  })
})

test('/api/generate refuses with the status when nothing was sent yet', async () => {
  const url = await serve(
    fakeNode(async function* () {
      yield ANSWER[0]!
      throw new PlanRefusedError('needs 4 GiB, 2 GiB are offered')
    })
  )
  const response = await fetch(`${url}/api/generate`, { method: 'POST', body: raw })
  expect(response.status).toBe(503)
})

test('/metrics counts answers, tokens and frames', async () => {
  const url = await serve()
  await (await fetch(`${url}/api/generate`, { method: 'POST', body: raw })).text()
  const text = await (await fetch(`${url}/metrics`)).text()
  expect(text).toContain('edgeshard_answers_total{outcome="stop"} 1\n')
  expect(text).toContain('edgeshard_generated_tokens_total 3\n')
  expect(text).toContain('edgeshard_prompt_tokens_total 4\n')
  expect(text).toContain('edgeshard_sent_bytes_total{kind="hidden"} 2048\n')
})

test('a ban takes a whole peer id', async () => {
  const asked: unknown[] = []
  const membership = {
    ...fakeNode().membership,
    ban: async (peerId: string, { keep }: { keep?: readonly string[] } = {}) => {
      asked.push({ peerId, keep })
      return { out: [], kept: [] }
    }
  }
  const url = await serve({ ...fakeNode(), membership })
  const ban = (peerId: string) =>
    fetch(`${url}/api/membership/ban`, {
      method: 'POST',
      headers: { 'x-edgeshard-token': TOKEN },
      body: JSON.stringify({ peerId })
    })
  expect((await ban(peerIdOf('b'))).status).toBe(200)
  for (const peerId of ['x', '', peerIdOf('b').slice(0, -1)]) expect((await ban(peerId)).status).toBe(400)
  expect(asked).toEqual([{ peerId: peerIdOf('b'), keep: [] }])
})
