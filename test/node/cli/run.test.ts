import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newApiToken, writeApiFile } from '../../../node/api-file.ts'
import {
  ContextLengthError,
  PlanRefusedError,
  RequestError,
  StageLostError,
  UnknownModelError
} from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { runningHome } from '../../fixtures/running-home.ts'
import { ANSWER, endless, type FakeNode, fakeNode, RESULT, replay } from '../http/fake-node.ts'

const EDGESHARD = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))

/** Of RESULT, by a node that gives no reasons. */
const WHO = 'answered by desk and lap top, 3.3 ms a token\n'

let home: string
const servers: HttpServer[] = []
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'edgeshard-run-'))
})
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
  await rm(home, { recursive: true, force: true })
})

async function serve(node: FakeNode = fakeNode(), apiKey?: string): Promise<string> {
  const init = { node, host: '127.0.0.1', port: 0 }
  const server = await startHttpServer(apiKey === undefined ? init : { ...init, apiKey })
  servers.push(server)
  return server.url
}

interface Ended {
  status: number | null
  stdout: string
  stderr: string
}

/** Runs the command line as a person would, with `input` on stdin. */
function edgeshard(
  args: string[],
  options: { input?: string; interruptAtFirstText?: boolean } = {}
): Promise<Ended> {
  const env = { ...process.env, EDGESHARD_HOME: home, EDGESHARD_API_KEY: undefined }
  const child = spawn(process.execPath, [EDGESHARD, ...args], { env: env as NodeJS.ProcessEnv })
  const ended: Ended = { status: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (options.interruptAtFirstText === true && ended.stdout === '') child.kill('SIGINT')
    ended.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.stderr += text
  })
  child.stdin.on('error', () => undefined).end(options.input ?? '')
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', status => resolve({ ...ended, status }))
  })
}

describe('run', () => {
  test('writes the text to stdout, and to stderr the one line that says who computed it', async () => {
    const node = fakeNode()
    const ended = await edgeshard([
      'run',
      'hi',
      '--api',
      await serve(node),
      '--model',
      'tiny',
      '--temperature',
      '0'
    ])
    expect(ended).toEqual({ status: 0, stdout: `${RESULT.text}\n`, stderr: WHO })
    expect(node.asked).toEqual([
      { input: { kind: 'chat', messages: [{ role: 'user', content: 'hi' }] }, model: 'tiny', temperature: 0 }
    ])
  })

  test('an answer that ended for want of room is said to be cut, but not one that had all that it was allowed', async () => {
    const cut = { ...RESULT, finishReason: 'length' as const }
    const url = await serve(fakeNode(() => replay([...ANSWER.slice(0, -1), { type: 'done', result: cut }])))
    const { stderr } = await edgeshard(['run', 'hi', '--api', url])
    expect(stderr).toBe(
      `the answer is cut here: its context is full, or the mesh has no memory for more of it\n${WHO}`
    )
    expect((await edgeshard(['run', 'hi', '--api', url, '--max-tokens', '3'])).stderr).toBe(WHO)
  })

  test('--json prints the one document of the contract', async () => {
    const ended = await edgeshard(['run', 'hi', '--api', await serve(), '--json'])
    expect(ended.status).toBe(0)
    expect(JSON.parse(ended.stdout)).toEqual(RESULT)
    expect(ended.stdout.trimEnd().split('\n')).toHaveLength(1)
  })

  test('every option reaches the node', async () => {
    const node = fakeNode()
    const drawing = '--top-p 0.5 --top-k 20 --min-p 0.05 --repeat-penalty 1.1 --repeat-last-n 64 --seed 7'
    const penalties = '--frequency-penalty 0.5 --presence-penalty -1'
    const options =
      `--raw --max-tokens 9 ${drawing} ${penalties} --objective throughput --privacy sealed`.split(' ')
    await edgeshard(['run', '-', '--api', await serve(node), ...options], { input: 'Once upon\n' })
    expect(node.asked).toEqual([
      {
        input: { kind: 'raw', text: 'Once upon\n' },
        maxTokens: 9,
        ...{ topP: 0.5, topK: 20, minP: 0.05, repetitionPenalty: 1.1, penaltyWindow: 64, seed: 7 },
        ...{ frequencyPenalty: 0.5, presencePenalty: -1 },
        objective: 'throughput',
        privacy: 'sealed'
      }
    ])
  })

  test.each(['run', 'bench'])('%s --device is refused of a node that runs already', async command => {
    const node = fakeNode()
    const prompt = command === 'run' ? ['hi'] : []
    const ended = await edgeshard([command, ...prompt, '--api', await serve(node), '--device', 'gpu'])
    expect(ended).toMatchObject({ status: 2, stdout: '' })
    expect(ended.stderr).toContain('--device is for a node that is started for the occasion')
    expect(node.asked).toEqual([])
  })

  test('--device reaches a node that is started for the occasion, and what comes of it is told', async () => {
    const ended = await edgeshard(['run', 'hi', '--model', 'no-such-model', '--device', 'auto'])
    expect(ended.stderr).toMatch(/^layers are computed on the CPU: /m)
    expect(ended.stderr).toContain('no-such-model')
  })

  test('--ids is the prompt as it is, and --logprobs says what was likely in the place of each token', async () => {
    const node = fakeNode()
    const ids = ['--ids', '1,403,407', '--logprobs', '2', '--json']
    const ended = await edgeshard(['run', ...ids, '--api', await serve(node)])
    expect(node.asked).toEqual([{ input: { kind: 'ids', ids: [1, 403, 407] }, topLogprobs: 2 }])
    const drawn = ANSWER.flatMap(event => (event.type === 'text' ? event.logprobs : []))
    expect(drawn.length).toBeGreaterThan(0)
    expect(JSON.parse(ended.stdout)).toEqual({
      ...RESULT,
      logprobs: drawn.map(({ top }) => top.map(({ id, logprob }) => ({ id, logprob })))
    })
  })

  test.each([
    ['no prompt', [], 'there is no prompt: give one, - to read it from stdin, or --ids'],
    ['ids beside a text', ['hi', '--ids', '1'], '--ids is the whole prompt'],
    [
      'ids that are none',
      ['--ids', '1,x'],
      'Give ids of tokens with commas between them, such as 1,403,407;'
    ],
    ['logprobs without JSON', ['hi', '--logprobs', '2'], '--logprobs goes with --json']
  ])('%s is bad input, in a line', async (_, args, message) => {
    const ended = await edgeshard(['run', ...args, '--api', await serve()])
    expect(ended).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining(message) })
  })

  test('finds the node that runs on its home', async () => {
    await using _ = await runningHome(home, { api: await serve() })
    expect((await edgeshard(['run', 'hi'])).stdout).toBe(`${RESULT.text}\n`)
  })

  test('does not ask whoever has the port of a node that died', async () => {
    const other = fakeNode()
    await writeApiFile(home, { api: await serve(other), token: newApiToken() })
    // Without a node to ask it starts one, in whose empty store there is no such model.
    const { status } = await edgeshard(['run', 'secret', '--model', 'no-such-model'])
    expect(status).not.toBe(0)
    expect(other.asked).toEqual([])
  })

  test('sends the API key', async () => {
    const url = await serve(fakeNode(), 'secret')
    expect((await edgeshard(['run', 'hi', '--api', url, '--api-key', 'secret'])).status).toBe(0)
    const refused = await edgeshard(['run', 'hi', '--api', url])
    expect(refused).toMatchObject({ status: 2, stdout: '' })
    expect(refused.stderr).toMatch(/^edgeshard: .*give --api-key.*\n$/)
  })

  test('text cannot steer the terminal', async () => {
    const text = 'a\u001b[2J\u009b\u0007\tb\nc\u202e'
    const node = fakeNode(() =>
      replay([
        { type: 'text', text, tokens: [1], logprobs: [] },
        { type: 'done', result: { ...RESULT, text } }
      ])
    )
    const url = await serve(node)
    expect((await edgeshard(['run', 'hi', '--api', url])).stdout).toBe('a[2J\tb\nc\n')
    const { stdout } = await edgeshard(['run', 'hi', '--api', url, '--json'])
    expect(stdout).not.toMatch(/[\p{Cc}\p{Bidi_Control}](?!$)/u)
    expect((JSON.parse(stdout) as { text: string }).text).toBe(text)
  })

  test('--verbose says who answered', async () => {
    const { stderr } = await edgeshard(['run', 'hi', '--api', await serve(), '--verbose'])
    expect(stderr).toContain('desk [0, 5) -> lap top [5, 10)\n')
    expect(stderr).toContain('4 prompt tokens, 3 new (stop)')
    const row = (line: string) => line.split('│').map(cell => cell.trim())
    const table = stderr.split('\n').filter(line => line.includes('│'))
    expect(table.map(row)).toContainEqual(['', 'compute desk [0, 5)', '1.25 ms', '1.00 ms', ''])
    expect(table.map(row)).toContainEqual(['', 'link to lap top', '0.40 ms', '0.50 ms', ''])
    expect(table.map(row)).toContainEqual(['', 'link to desk', '0.60 ms', '0.50 ms', ''])
  })

  test('Ctrl-C cancels the answer at the node', async () => {
    const node = fakeNode((_, signal) => endless(signal, 'x'))
    const ended = await edgeshard(['run', 'hi', '--api', await serve(node)], { interruptAtFirstText: true })
    expect(ended).toMatchObject({ status: 130, stderr: 'edgeshard: interrupted\n' })
    await expect.poll(() => node.signals[0]!.aborted).toBe(true)
  })

  test.each([
    ['bad input', new RequestError('the prompt has 600 tokens', 'prompt'), 2],
    ['an unknown model', new UnknownModelError('nobody holds "huge"'), 2],
    ['no placement', new PlanRefusedError('needs 4 GiB, 2 GiB are offered'), 3],
    ['a lost stage', new StageLostError('laptop died', 'peer'), 1]
  ])('%s: one line and its exit status', async (_, error, status) => {
    const url = await serve(
      fakeNode(async function* () {
        yield ANSWER[0]!
        throw error
      })
    )
    const stdout = status === 3 ? `${JSON.stringify({ feasible: false, reason: error.message })}\n` : ''
    const ended = await edgeshard(['run', 'hi', '--api', url, '--json'])
    expect(ended).toEqual({ status, stdout, stderr: `edgeshard: ${error.message}\n` })
  })

  test('a stage lost in the middle leaves what was shown and fails', async () => {
    const url = await serve(
      fakeNode(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        throw new StageLostError('laptop died', 'peer')
      })
    )
    const ended = await edgeshard(['run', 'hi', '--api', url])
    expect(ended).toMatchObject({ status: 1, stdout: 'Hello' })
    expect(ended.stderr).toContain('edgeshard: laptop died\n')
  })

  test('nobody at the address', async () => {
    const url = await serve()
    await servers.pop()!.stop()
    const ended = await edgeshard(['run', 'hi', '--api', url])
    expect(ended).toMatchObject({ status: 1, stdout: '' })
    expect(ended.stderr).toContain(`no node answers at ${url}`)
  })

  test.each([
    ['an empty prompt', ['run', ' '], 'the prompt is empty'],
    [
      'a provider that is not offered',
      ['run', 'hi', '--device', 'cuda'],
      'gpu uses an NVIDIA card by Vulkan'
    ],
    ['a processor that is none', ['run', 'hi', '--device', 'npu'], 'Allowed choices are auto, cpu, gpu'],
    ['no prompt', ['run'], 'prompt'],
    ['a negative temperature', ['run', 'hi', '--temperature=-1'], 'from 0 to 2'],
    ['top-p that is no number', ['run', 'hi', '--top-p', 'x'], 'from 0 to 1'],
    ['a penalty that is none', ['run', 'hi', '--repeat-penalty', '0'], 'from 0.01 to 100'],
    ['absurdly many tokens', ['run', 'hi', '--max-tokens', '99999999999'], 'whole number'],
    ['an unknown privacy', ['run', 'hi', '--privacy', 'none'], 'prompt'],
    ['an address that is none', ['run', 'hi', '--api', 'ftp://x'], '--api ftp://x'],
    ['--raw with --system', ['run', 'hi', '--raw', '--system', 'x'], '--raw takes no --system']
  ])('%s is bad input', async (_, args, message) => {
    const ended = await edgeshard(args)
    expect(ended).toMatchObject({ status: 2, stdout: '' })
    expect(ended.stderr).toContain(message)
  })
})

describe('chat', () => {
  test('keeps the conversation until it is cleared', async () => {
    const node = fakeNode()
    const input = 'one\ntwo\n/clear\nthree\n/exit\nfour\n'
    const ended = await edgeshard(['chat', '--api', await serve(node), '--system', 'Be brief.'], { input })
    expect(ended).toEqual({
      status: 0,
      stdout: `${RESULT.text}\n`.repeat(3),
      stderr: `${WHO}${WHO}(the conversation is forgotten)\n${WHO}`
    })
    const system = { role: 'system', content: 'Be brief.' }
    const [one, two, three] = ['one', 'two', 'three'].map(content => ({ role: 'user', content }))
    const answer = { role: 'assistant', content: RESULT.text }
    expect(node.asked.map(({ input }) => input)).toEqual([
      { kind: 'chat', messages: [system, one] },
      { kind: 'chat', messages: [system, one, answer, two] },
      { kind: 'chat', messages: [system, three] }
    ])
  })

  test('several lines between quotes are one message, and commands are none', async () => {
    const node = fakeNode()
    const path = join(home, 'talk.json')
    const input = `"""one\n\n  two"""\n/model\n/model none\n/model tiny\nthree\n/save ${path}\n/nonsense\n`
    const { status, stderr } = await edgeshard(['chat', '--api', await serve(node)], { input })
    expect(status).toBe(0)
    expect(node.asked.map(({ model }) => model)).toEqual([undefined, 'tiny'])
    const [first, second] = node.asked.map(
      ({ input }) => input.kind === 'chat' && input.messages.at(-1)?.content
    )
    expect([first, second]).toEqual(['one\n\n  two', 'three'])
    const said = stderr.split('\n').filter(line => line !== '' && !line.startsWith('answered by'))
    expect(said).toEqual([
      'the default model is asked; there is only tiny',
      'no device of this mesh holds a model called "none"; there is only tiny',
      'tiny is asked from now on',
      `the conversation is in ${path}: 4 messages`,
      'there is no command /nonsense; /help lists them'
    ])
    expect(JSON.parse(await readFile(path, 'utf8'))).toHaveLength(4)
  })

  test('Ctrl-C cancels the answer and the conversation goes on', async () => {
    let asked = 0
    const node = fakeNode((_, signal) => (asked++ === 0 ? endless(signal, 'x') : replay(ANSWER)))
    const ended = await edgeshard(['chat', '--api', await serve(node)], {
      input: 'one\ntwo\n',
      interruptAtFirstText: true
    })
    expect(ended.status).toBe(0)
    expect(ended.stderr).toContain('(cancelled)')
    expect(ended.stdout).toMatch(new RegExp(`^x+\n?${RESULT.text}\n$`))
    expect(node.asked[1]!.input).toEqual({ kind: 'chat', messages: [{ role: 'user', content: 'two' }] })
  })

  test('what does not fit the context is forgotten, the oldest first', async () => {
    const node = fakeNode(async function* ({ input }) {
      const count = input.kind === 'chat' ? input.messages.length : 0
      if (count > 3) throw new ContextLengthError('the prompt has 600 tokens', 'prompt')
      yield { type: 'done', result: RESULT }
    })
    const args = ['chat', '--api', await serve(node), '--system', 's', '--max-tokens', '9']
    const { status, stderr } = await edgeshard(args, { input: 'one\ntwo\nthree\n' })
    expect(status).toBe(0)
    expect(stderr).toMatch(/^answered by .*\n\(the context is full.*\)\n/)
    const asked = node.asked.map(
      ({ input }) => input.kind === 'chat' && input.messages.map(({ content }) => content)
    )
    const answer = RESULT.text
    expect(asked).toEqual([
      ['s', 'one'],
      ['s', 'one', answer, 'two'],
      ['s', 'two'],
      ['s', 'two', answer, 'three'],
      ['s', 'three']
    ])
  })

  test('an answer that the context cut short makes room for the next', async () => {
    const node = fakeNode(async function* () {
      yield { type: 'done', result: { ...RESULT, finishReason: 'length' } }
    })
    const args = ['chat', '--api', await serve(node), '--max-tokens', '9']
    await edgeshard(args, { input: 'one\ntwo\nthree\n' })
    const asked = node.asked.map(
      ({ input }) => input.kind === 'chat' && input.messages.map(({ content }) => content)
    )
    expect(asked.at(-1)).toEqual(['two', RESULT.text, 'three'])
  })

  test('a failure ends a conversation that is read from a file', async () => {
    const url = await serve(
      fakeNode(async function* () {
        yield ANSWER[0]!
        throw new StageLostError('laptop died', 'peer')
      })
    )
    const ended = await edgeshard(['chat', '--api', url], { input: 'one\ntwo\n' })
    expect(ended).toEqual({ status: 1, stdout: '', stderr: 'edgeshard: laptop died\n' })
  })
})
