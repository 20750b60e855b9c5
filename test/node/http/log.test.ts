import OpenAI from 'openai'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type LogLine, logTo } from '../../../models/log.ts'
import { StageLostError } from '../../../node/errors.ts'
import { startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { fakeNode } from './fake-node.ts'

const lines: LogLine[] = []
beforeEach(() => {
  lines.length = 0
  logTo({ isOn: () => true, write: line => void lines.push(line) })
})
afterEach(() => logTo({ isOn: () => false, write: () => {} }))

const SECRET = 'my secret question'
const question = { model: 'tiny', messages: [{ role: 'user' as const, content: SECRET }] }

async function served(node = fakeNode()) {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  return { node, client, url: server.url, [Symbol.asyncDispose]: () => server.stop() }
}

describe('a request over HTTP', () => {
  it('is called the same to the client, the node and the log, whole, streamed and failed', async () => {
    await using server = await served()
    const whole = await server.client.chat.completions.create(question)
    const streamed = await server.client.chat.completions.create({ ...question, stream: true }).withResponse()
    for await (const _ of streamed.data);
    await using failing = await served(
      fakeNode(async function* () {
        yield { type: 'progress', phase: 'plan', peer: 'b', done: 0, total: 1 }
        throw new StageLostError('stage lost: b', 'b')
      })
    )
    const error = await failing.client.chat.completions.create(question).catch(thrown => thrown)

    const ids = [...server.node.requestIds, ...failing.node.requestIds]
    expect(new Set(ids).size).toBe(3)
    expect([whole._request_id, streamed.request_id, error.requestID]).toEqual(ids)
    const responded = lines.filter(({ message }) => message === 'responded')
    expect(responded.map(({ requestId }) => requestId)).toEqual(ids)
    expect(responded[0]).toMatchObject({
      level: 'debug',
      namespace: 'edgeshard:http',
      fields: { method: 'POST', path: '/v1/chat/completions', status: 200 }
    })
    expect(JSON.stringify(lines)).not.toContain('secret')
  })

  it('that meets a mistake of ours is an error in the log, by its origin and without its words', async () => {
    const node = fakeNode()
    node.models = () => {
      throw new TypeError(`cannot read ${SECRET}`)
    }
    await using server = await served()
    await using broken = await served(node)
    expect((await fetch(`${broken.url}/api/models?text=${SECRET}`)).status).toBe(500)
    expect((await fetch(`${server.url}/v1/models/${'x'.repeat(1000)}`)).status).toBe(404)
    const errors = lines.filter(({ level }) => level === 'error')
    expect(errors).toMatchObject([
      {
        message: 'a request failed inside',
        fields: { method: 'GET', path: '/api/models', name: 'TypeError' }
      }
    ])
    expect(errors[0]!.fields.at).toContain('log.test.ts')
    expect(String(lines.at(-1)!.fields.path).length).toBeLessThanOrEqual(100)
    expect(JSON.stringify(lines)).not.toContain('secret')
  })

  it.each([
    ['/v1/chat/completions', question],
    ['/v1/chat/completions', { ...question, n: 2 }],
    ['/v1/embeddings', { model: 'tiny', input: SECRET }]
  ])('whose client has left is no mistake of ours: %s %#', async (path, body) => {
    const untilLeft = async (signal: AbortSignal) => {
      if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve))
      throw signal.reason
    }
    const node = fakeNode(async function* (_, signal) {
      yield { type: 'progress', phase: 'plan', peer: 'b', done: 0, total: 1 }
      await untilLeft(signal)
    })
    const { embed } = node
    node.embed = async (request, options) => {
      await embed(request, options)
      return await untilLeft(options!.signal!)
    }
    await using server = await served(node)
    const left = new AbortController()
    const asked = { method: 'POST', body: JSON.stringify(body), signal: left.signal }
    const gone = fetch(`${server.url}${path}`, asked).catch((error: unknown) => error)
    const limit = { timeout: deadlineMs(5000), interval: 5 }
    await vi.waitFor(() => expect(node.signals.length).toBeGreaterThan(0), limit)
    left.abort()
    await gone
    const responded = () => lines.filter(({ message }) => message === 'responded')
    await vi.waitFor(() => expect(responded()).toHaveLength(1), limit)
    expect(lines.filter(({ level }) => level === 'error')).toEqual([])
  })
})
