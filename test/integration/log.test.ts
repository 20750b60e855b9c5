import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { glob, readFile } from 'node:fs/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { createClient } from '../../node/client/index.ts'
import { ask } from '../../node/demo/ask.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'

/** Nodes as processes of their own: each has a stderr of its own. */
const running: NodeProcess[] = []
const homes = new Nodes()

afterEach(async () => {
  await Promise.all(running.splice(0).map(node => node.stop()))
})

const logLine = z.strictObject({
  time: z.iso.datetime(),
  level: z.enum(['error', 'warn', 'info', 'debug', 'trace']),
  namespace: z.string().regex(/^(edgeshard|libp2p):/),
  message: z.string().min(1),
  requestId: z.string().optional(),
  // No lists: ids of tokens would be one.
  fields: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
})

interface LoggedNode {
  node: NodeProcess
  text: () => string
  lines: () => z.output<typeof logLine>[]
}

async function up(name: string, args: string[]): Promise<LoggedNode> {
  const where = ['--home', await homes.home(SECRET), '--name', name, '--no-mdns']
  const all = [...where, '--port', '0', '--api', '127.0.0.1:0', ...args]
  const said: string[] = []
  const node = await NodeProcess.start(all, {
    readyTimeoutMs: deadlineMs(20_000),
    onLog: line => void said.push(line)
  })
  running.push(node)
  return {
    node,
    text: () => said.join('\n'),
    lines: () => said.map(line => logLine.parse(JSON.parse(line)))
  }
}

const PROMPT = 'Tell me a story about a robot and a lamp.'

describe('the logs of two nodes that answer together', () => {
  it('tell all of the request by one id, and nothing of what is said', async () => {
    const args = ['--memory', String(await bundledShare(0.7)), '--log-level', 'trace', '--log-format', 'json']
    const a = await up('a', args)
    const b = await up('b', [...args, '--no-bundled', '--peer', a.node.addresses[0]!])
    await until(async () => (await a.node.mesh()).peers.some(peer => peer.connected))

    const signal = new AbortController().signal
    const answer = await ask(a.node.api, { prompt: PROMPT, maxTokens: 200, signal })
    expect(answer.plan.stages.map(({ name }) => name).sort()).toEqual(['a', 'b'])
    // A second one, on stages that are leased already.
    const again = await ask(a.node.api, { prompt: PROMPT, maxTokens: 5, signal })
    const promptIds = await promptTokens(a.node.api)
    await Promise.all(running.splice(0).map(node => node.stop()))

    const answered = a.lines().filter(({ message }) => message === 'answered')
    expect(answered).toHaveLength(2)
    expect(answered[0]).toMatchObject({
      level: 'info',
      namespace: 'edgeshard:source',
      fields: {
        model: 'edgeshard-tiny',
        tokens: answer.tokens.length,
        ttftMs: answer.ttftMs,
        tpotMs: answer.tpotMs,
        recoveries: 0,
        finishReason: answer.finishReason,
        devices: answer.plan.stages.map(s => `${s.name} [${s.layers[0]}, ${s.layers[1]})`).join(' > ')
      }
    })
    const [first, second] = answered.map(({ requestId }) => requestId!)
    expect(first).not.toBe(second)
    const said = (node: LoggedNode, id: string) =>
      node.lines().flatMap(({ requestId, message }) => (requestId === id ? [message] : []))
    expect(said(a, first!)).toEqual(
      expect.arrayContaining(['prompt encoded', 'planned', 'reserved', 'loaded', 'placed', 'responded'])
    )
    const lease = ['lease granted', 'lease loaded', 'session opened', 'session closed', 'lease ended']
    expect(said(b, first!)).toEqual(expect.arrayContaining(lease))
    expect(said(b, second!)).toEqual(['session opened', 'session closed'])
    // What is logged of a request at all says of which: no line about sessions or requests is without it.
    const about = [...a.lines(), ...b.lines()].filter(({ fields, message }) => {
      return 'sessionId' in fields || /^(answered|planned|placed|reserved|loaded|lease |fetch)/.test(message)
    })
    expect(about.length).toBeGreaterThan(10)
    for (const line of about) expect([first, second], JSON.stringify(line)).toContain(line.requestId)

    const everything = `${a.text()}\n${b.text()}`
    const words = await foreignWords([PROMPT, answer.text, again.text])
    expect(words).toEqual(expect.arrayContaining(['robot', 'lamp']))
    for (const word of words) expect(everything).not.toMatch(new RegExp(`\\b${word}\\b`, 'i'))
    for (const text of [PROMPT, answer.text]) {
      for (const three of inThrees(text.split(/\s+/))) expect(everything).not.toContain(three.join(' '))
    }
    for (const ids of [promptIds, answer.tokens]) {
      expect(ids.length).toBeGreaterThan(5)
      for (const three of inThrees(ids)) {
        expect(everything).not.toMatch(new RegExp(`\\b${three.join('[\\s,]+')}\\b`))
      }
    }
  })
})

describe('what goes wrong', () => {
  it('has the id that the client got, and not the words of the prompt', async () => {
    const { node, lines, text } = await up('alone', ['--log-level', 'trace', '--log-format', 'json'])
    const body = { model: 'nothing-of-that-name', messages: [{ role: 'user', content: PROMPT }] }
    const response = await fetch(`${node.api}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
    expect(response.status).toBe(404)
    const id = response.headers.get('x-request-id')
    await until(() => lines().some(({ message }) => message === 'responded'))
    const failed = lines().find(({ message }) => message === 'request failed')!
    expect(failed).toMatchObject({ level: 'warn', requestId: id, fields: { code: 'model_not_found' } })
    expect(text()).not.toContain('robot')
  })
})

describe('DEBUG', () => {
  it('chooses parts, one line a line, and leaves stdout to the command', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const args = [
      'up',
      '--home',
      await homes.home(SECRET),
      '--no-mdns',
      '--port',
      '0',
      '--api',
      '127.0.0.1:0'
    ]
    const launcher = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
    const child = spawn(process.execPath, [launcher, ...args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, DEBUG: 'edgeshard:*' }
    })
    let [out, err] = ['', '']
    child.stdout.on('data', chunk => {
      out += chunk
      if (out.includes('"ready"')) resolve()
    })
    child.stderr.on('data', chunk => {
      err += chunk
    })
    const exited = once(child, 'exit')
    await Promise.race([promise, exited])
    child.kill('SIGTERM')
    await exited
    expect(err).toMatch(/^\S+Z edgeshard:node:info node started peerId=12D3\w+ version=\S+ budgetBytes=\d+/m)
    expect(err).not.toContain(':trace')
    for (const line of out.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('event')
  })
})

function inThrees<T>(all: readonly T[]): T[][] {
  return all.slice(2).map((_, at) => all.slice(at, at + 3))
}

/** Words of texts that no line can have by itself: the sources, whose messages are constant, do not have them. */
async function foreignWords(texts: string[]): Promise<string[]> {
  const wordsOf = (text: string) => text.toLowerCase().match(/[a-z]{3,}/g) ?? []
  const own = new Set<string>()
  for (const folder of ['models', 'protocols', 'node']) {
    const cwd = new URL(`../../${folder}/`, import.meta.url)
    for await (const file of glob('**/*.ts', {
      cwd,
      exclude: ['demo/**', 'bench/**', 'page/**', 'privacy/text.ts']
    })) {
      for (const word of wordsOf(await readFile(new URL(file, cwd), 'utf8'))) own.add(word)
    }
  }
  return [...new Set(texts.flatMap(wordsOf))].filter(word => !own.has(word))
}

async function promptTokens(api: string): Promise<number[]> {
  return await createClient({ url: api }).tokenize(PROMPT)
}
