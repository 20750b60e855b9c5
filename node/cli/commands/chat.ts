import { randomUUID } from 'node:crypto'
import { Command } from 'commander'
import type { ChatMessage } from '../../api.ts'
import type { Client } from '../../client/index.ts'
import { errorCodeOf } from '../../error-codes.ts'
import { connectNode } from '../api-client.ts'
import { carryOut, HELP, type Talk } from '../chat-commands.ts'
import { keepHistory, readHistory } from '../chat-history.ts'
import { ChatInput } from '../chat-input.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { inLines, isCutShort, sayWho, showAnswer } from '../run-answer.ts'
import { addRequestOptions, loadOptionsOf, type RequestOptions, requestOf } from '../run-options.ts'
import { Waiting } from '../waiting.ts'

/** `edgeshard chat`: `run` in a loop that keeps the conversation. */
export function chatCommand(): Command {
  const command = new Command('chat').description(
    'Talk with the mesh: each message is answered, the conversation is kept.'
  )
  return addRequestOptions(command)
    .option('--json', 'one JSON document an answer on stdout')
    .addHelpText('after', `\nIn the conversation:\n${HELP}`)
    .action(chat)
}

interface ChatOptions extends RequestOptions {
  json?: boolean
}

async function chat(options: ChatOptions): Promise<void> {
  const starting = interruptSignal()
  const waiting = new Waiting()
  const home = homeDir(options.home)
  const { node, close } = await connectNode({ ...options, home, waiting }, starting.signal).finally(() =>
    waiting.stop()
  )
  starting.dispose()
  try {
    await converse(node, home, options)
  } finally {
    await close()
  }
}

/** Answers messages until there are no more. Ctrl-C ends the answer under way, else the conversation. */
async function converse(node: Client, home: string, options: ChatOptions): Promise<void> {
  const terminal = process.stdin.isTTY === true
  let typed: string[] | undefined
  const input = new ChatInput({
    input: process.stdin,
    ...(terminal && {
      output: process.stderr,
      history: await readHistory(home),
      onHistory: (lines: string[]) => {
        typed = lines
      }
    })
  })
  let answering: AbortController | null = null
  const interrupt = () => {
    if (answering === null) input.close()
    else answering.abort()
  }
  const terminate = () => {
    answering?.abort()
    input.close()
  }
  input.onInterrupt(interrupt)
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', terminate)
  const talk: Talk = { messages: beginning(options), model: options.model }
  const left = new AbortController()
  beginLoad(node, options, left.signal)
  try {
    if (terminal) process.stderr.write('/help says what can be typed besides questions\n')
    for await (const text of input.messages()) {
      if (text.trim() === '') continue
      const { model } = talk
      const done = await carryOut(text, talk, { node, beginning: () => beginning(options) }).catch(
        (error: unknown) => {
          if (!terminal) throw error
          return {
            kind: 'said',
            text: clean(error instanceof Error ? error.message : String(error))
          } as const
        }
      )
      if (done.kind === 'exit') break
      if (done.kind === 'said') {
        process.stderr.write(`${await inLines(done.text)}\n`)
        if (talk.model !== model) beginLoad(node, withModel(options, talk), left.signal)
        continue
      }
      const { signal } = (answering = new AbortController())
      const asked: ChatMessage[] = [...talk.messages, { role: 'user', content: text.trim() }]
      const answered = await answer(node, asked, withModel(options, talk), signal, terminal)
      talk.messages = answered ?? talk.messages
      answering = null
    }
  } finally {
    left.abort()
    input.close()
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', terminate)
    if (typed !== undefined) await keepHistory(home, typed)
  }
}

function withModel(options: ChatOptions, { model }: Talk): ChatOptions {
  return model === undefined ? options : { ...options, model }
}

/** Has the model loaded while the first message is typed, until the conversation is left. Nobody waits for it. */
function beginLoad(node: Client, options: ChatOptions, signal: AbortSignal): void {
  const { model, ...asked } = loadOptionsOf(options)
  // Nothing would be there for the message.
  if (asked.keepAliveMs === 0) return
  node.load(model, { ...asked, signal }).catch(() => {
    // The first message says why.
  })
}

/** Names this conversation to the node, which keeps its KV cache for the next turn. */
const conversation = randomUUID()

/** The conversation with its answer, or null when there was none and the conversation can go on. */
async function answer(
  node: Client,
  messages: ChatMessage[],
  options: ChatOptions,
  signal: AbortSignal,
  terminal: boolean
): Promise<ChatMessage[] | null> {
  const { json = false, verbose = false, explain = false } = options
  const request = { ...requestOf(options), conversation, input: { kind: 'chat' as const, messages } }
  try {
    const askedMs = performance.now()
    const waiting = new Waiting({ now: () => performance.now() - askedMs })
    waiting.say(`asking the node at ${new URL(node.url).host}`)
    const events = node.generate(request, { signal })
    const { result } = await showAnswer(events, { text: !json, verbose, waiting })
    if (json) process.stdout.write(jsonLine(result))
    else if (result.error === undefined) await sayWho(result, request, { node, signal, explain })
    if (result.error !== undefined) throw new Error(result.error)
    const answered: ChatMessage[] = [...messages, { role: 'assistant', content: result.text }]
    return isCutShort(result, options) ? forgetOldest(answered) : answered
  } catch (error) {
    const shorter = errorCodeOf(error) === 'context_length_exceeded' ? forgetOldest(messages) : messages
    if (shorter.length < messages.length) return await answer(node, shorter, options, signal, terminal)
    if (!signal.aborted && !terminal) throw error
    const message = signal.aborted
      ? '(cancelled)'
      : clean(error instanceof Error ? error.message : String(error))
    process.stderr.write(`\n${message}\n`)
    return null
  }
}

/** Without the oldest question and its answer; instructions and the last message stay. */
function forgetOldest(messages: ChatMessage[]): ChatMessage[] {
  const first = messages.findIndex(({ role }) => role !== 'system')
  const next = messages.findIndex(({ role }, i) => i > first && role === 'user')
  if (next < 0) return messages
  process.stderr.write('(the context is full: the oldest question and its answer are forgotten)\n')
  return messages.toSpliced(first, next - first)
}

function beginning({ system }: ChatOptions): ChatMessage[] {
  return system === undefined ? [] : [{ role: 'system', content: system }]
}
