import { Command } from 'commander'
import type { ChatMessage, GenerateRequest } from '../../api.ts'
import { errorCodeOf } from '../../error-codes.ts'
import { connectNode } from '../api-client.ts'
import { askedAtOnce } from '../asked-at-once.ts'
import { InputError } from '../errors.ts'
import { jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { integerOption } from '../options.ts'
import { addRequestOptions, type RequestOptions, requestOf } from '../run-options.ts'
import { tokenIds } from '../token-ids.ts'
import { Waiting } from '../waiting.ts'

/** Far more than fills any context. */
const MAX_PROMPT_BYTES = 8 << 20
/** Processors that a node says at most. */
const MAX_LOGPROBS = 20

interface RunOptions extends RequestOptions {
  raw?: boolean
  ids?: number[]
  logprobs?: number
  json?: boolean
}

/** `edgeshard run`: one prompt, one answer. */
export function runCommand(): Command {
  const command = new Command('run')
    .description('Prompt the mesh; the answer is written to stdout as it arrives.')
    .argument('[prompt]', 'what to ask; - reads it from stdin')
  return addRequestOptions(command)
    .option('--raw', "continue the prompt as it is, without the model's chat template")
    .option('--ids <ids>', 'the prompt as ids of tokens, 1,403,407: nothing is put before it', tokenIds)
    .option('--json', 'one JSON document with text, tokens, times and plan on stdout')
    .option(
      '--logprobs <n>',
      'with --json: for each token of the answer the likeliest ones, with the logarithm of their probability',
      integerOption(1, MAX_LOGPROBS)
    )
    .addHelpText(
      'after',
      `
Examples:
  edgeshard run "What does a thermostat do?"
  edgeshard run --model stories260k --raw --temperature 0 "Once upon a time"
  cat question.txt | edgeshard run - --json

Exit status: 0 answered, 1 failure, 2 bad input, 3 no placement fits (--json: the reason on stdout too).`
    )
    .action(run)
}

async function run(prompt: string | undefined, options: RunOptions): Promise<void> {
  const { signal, dispose } = interruptSignal()
  const waiting = new Waiting()
  try {
    const { json = false, verbose = false, explain = false, logprobs } = options
    if (logprobs !== undefined && !json) throw new InputError('--logprobs goes with --json')
    const text = prompt === '-' ? await readStdin(signal) : prompt
    const request: GenerateRequest = {
      ...requestOf(options),
      ...(logprobs !== undefined && { topLogprobs: logprobs }),
      input: inputOf(text, options)
    }
    const home = homeDir(options.home)
    const { node, close } = await connectNode({ ...options, home, waiting }, signal)
    try {
      const events = askedAtOnce(node.generate(request, { signal }))
      // What shows the answer is loaded while it is computed.
      const { logprobsOf, sayWho, showAnswer } = await import('../run-answer.ts')
      const { result, drawn } = await showAnswer(events, {
        text: !json,
        verbose,
        waiting
      })
      const also = logprobs === undefined ? {} : { logprobs: logprobsOf(drawn) }
      if (json) process.stdout.write(jsonLine({ ...result, ...also }))
      else if (result.error === undefined) await sayWho(result, request, { node, signal, explain })
      if (result.error !== undefined) throw new Error(result.error)
    } finally {
      await close()
    }
  } catch (error) {
    if (errorCodeOf(error) === 'infeasible' && options.json === true) {
      process.stdout.write(jsonLine({ feasible: false, reason: (error as Error).message }))
    }
    throw error
  } finally {
    waiting.stop()
    dispose()
  }
}

function inputOf(text: string | undefined, { raw, ids, system }: RunOptions): GenerateRequest['input'] {
  if (ids !== undefined) {
    if (text !== undefined || raw === true || system !== undefined)
      throw new InputError('--ids is the whole prompt: it goes with no text, no --raw and no --system')
    return { kind: 'ids', ids }
  }
  if (text === undefined)
    throw new InputError('there is no prompt: give one, - to read it from stdin, or --ids')
  if (text.trim() === '') throw new InputError('the prompt is empty')
  if (raw === true && system !== undefined)
    throw new InputError('--raw takes no --system: the prompt is fed as it is')
  if (raw === true) return { kind: 'raw', text }
  const before: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }]
  return { kind: 'chat', messages: [...before, { role: 'user', content: text }] }
}

async function readStdin(signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin.iterator({ destroyOnReturn: true })) {
    signal.throwIfAborted()
    chunks.push(chunk as Buffer)
    bytes += (chunk as Buffer).length
    if (bytes > MAX_PROMPT_BYTES) throw new InputError(`the prompt has more than ${MAX_PROMPT_BYTES} bytes`)
  }
  return Buffer.concat(chunks).toString('utf8')
}
