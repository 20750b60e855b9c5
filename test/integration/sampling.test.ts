import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { startHttpServer } from '../../node/http/index.ts'
import { Nodes } from '../fixtures/nodes.ts'

const QUESTION = 'Tell me a story about a robot and a lamp.'
const CHAT = {
  model: 'edgeshard-tiny',
  messages: [{ role: 'user' as const, content: QUESTION }],
  temperature: 0.9,
  top_p: 1,
  seed: 11,
  max_tokens: 32
}
type Asked = Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> & Record<string, unknown>

test('each parameter changes or bounds an answer, the same over several nodes as on one', async () => {
  await using nodes = new Nodes()
  const alone = await nodes.add({ name: 'alone' })
  const [source] = await nodes.mesh(['a', 'b', 'c'], 0.5)
  const servers = await Promise.all(
    [alone, source!].map(node => startHttpServer({ node, host: '127.0.0.1', port: 0 }))
  )
  const clients = servers.map(
    ({ url }) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 })
  )
  /** The choices of an answer, which both give alike. */
  const said = async (fields: Asked = {}) => {
    const [one, cut] = await Promise.all(
      clients.map(client => client.chat.completions.create({ ...CHAT, ...fields } as typeof CHAT))
    )
    const choices = (completion: typeof one) =>
      completion!.choices.map(({ message, finish_reason }) => ({ text: message.content, finish_reason }))
    expect(choices(cut), JSON.stringify(fields)).toEqual(choices(one))
    return choices(one)
  }
  try {
    const plain = await said()
    const greedy = await said({ temperature: 0 })
    expect(plain).not.toEqual(greedy)
    expect(await said({ top_k: 1 })).toEqual(greedy)
    expect(await said({ top_k: 4 })).not.toEqual(plain)
    expect(await said({ min_p: 1 })).toEqual(greedy)
    expect(await said({ min_p: 0.3 })).not.toEqual(plain)
  } finally {
    await Promise.all(servers.map(server => server.stop()))
  }
})
