import { randomUUID } from 'node:crypto'
import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import type { ChatMessage, GenerateResult } from '../../api.ts'
import type { Client } from '../../client/index.ts'
import { errorCodeOf } from '../../error-codes.ts'
import { connectNode } from '../api-client.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { sayWho, showAnswer } from '../run-answer.ts'
import { addRequestOptions, type RequestOptions, requestOf } from '../run-options.ts'
import { Waiting } from '../waiting.ts'

const HELP = '/clear forgets the conversation, /exit (or Ctrl-D) leaves, Ctrl-C cancels an answer.'

/** `edgeshard chat`: `run` in a loop that keeps the conversation. */
export function chatCommand(): Command {
  const command = new Command('chat').description(
    'Talk with the mesh: each line is answered, the conversation is kept.'
  )
  return addRequestOptions(command)
    .option('--json', 'one JSON document an answer on stdout')
    .addHelpText('after', `\nIn the conversation: ${HELP}`)
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
    await converse(node, options)
  } finally {
    await close()
  }
}

/** Reads lines until there are no more. Ctrl-C ends the answer under way, else the conversation. */
async function converse(node: Client, options: ChatOptions): Promise<void> {
  const terminal = process.stdin.isTTY === true
  const lines = createInterface({ input: process.stdin, ...(terminal ? { output: process.stderr } : {}) })
  let answering: AbortController | null = null
  const interrupt = () => {
    if (answering === null) lines.close()
    else answering.abort()
  }
  const terminate = () => {
    answering?.abort()
    lines.close()
  }
  lines.on('SIGINT', interrupt)
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', terminate)
  try {
    if (terminal) process.stderr.write(`${HELP}\n`)
    let ended = false
    lines.once('close', () => {
      ended = true
    })
    lines.setPrompt('> ')
    const prompt = () => {
      if (terminal && !ended) lines.prompt()
    }
    prompt()
    let messages = beginning(options)
    for await (const line of lines) {
      const text = line.trim()
      if (text === '/exit' || text === '/bye') break
      if (text === '/clear') messages = beginning(options)
      else if (text === '/help') process.stderr.write(`${HELP}\n`)
      else if (text !== '') {
        answering = new AbortController()
        const asked: ChatMessage[] = [...messages, { role: 'user', content: text }]
        messages = (await answer(node, asked, options, answering.signal, terminal)) ?? messages
        answering = null
      }
      prompt()
    }
  } finally {
    lines.close()
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', terminate)
  }
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
    const result = await showAnswer(events, { text: !json, verbose, waiting })
    if (json) process.stdout.write(jsonLine(result))
    else if (result.error === undefined) await sayWho(result, request, { node, signal, explain })
    if (result.error !== undefined) throw new Error(result.error)
    const answered: ChatMessage[] = [...messages, { role: 'assistant', content: result.text }]
    return cutShort(result, options) ? forgetOldest(answered) : answered
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

/** The answer ended for want of context, not because it had the tokens it was allowed. */
function cutShort({ finishReason, tokens }: GenerateResult, { maxTokens }: ChatOptions): boolean {
  return finishReason === 'length' && tokens.length < (maxTokens ?? Number.POSITIVE_INFINITY)
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
