import type { GenerateRequest, GenerateResult } from '../../api.ts'
import { answerAs, ignoredHeader, sse } from '../answer.ts'
import { errorAnswer } from '../errors.ts'
import { type Components, type HttpContext, holderOf, type Running, startAnswer } from '../request.ts'
import { textStream } from '../text-stream.ts'
import {
  type AnswerHead,
  choiceOf,
  chunksOf,
  collected,
  detailsOf,
  envelope,
  openAiForm,
  usageChunk,
  usageOf
} from './answers.ts'
import type { CompletionsRequest } from './schema.ts'

/** Prompts of one request that are answered at the same time. */
const AT_ONCE = 8

/** Answers one prompt, or several of one request, each as a choice. */
export async function answerCompletions(
  head: AnswerHead,
  asked: CompletionsRequest,
  context: HttpContext,
  components: Components
): Promise<Response> {
  const { inputs, request } = asked
  if (inputs.length === 1) return await answerAs(openAiForm(head, asked), asked, context, components)
  const start = (input: GenerateRequest['input']) => startAnswer(context, components, { ...request, input })
  if (!asked.stream) {
    const atOnce = Math.min(AT_ONCE, holderOf(context)?.places?.limit ?? AT_ONCE)
    const results = await allResults(inputs, atOnce, start)
    const choices = results.map(({ result, logprobs }, index) =>
      choiceOf(head, result, asked.logprobs ? logprobs : null, index)
    )
    const body = {
      ...envelope(head),
      choices,
      usage: usageOf(results.map(({ result }) => result)),
      edgeshard: { answers: results.map(({ result }) => detailsOf(result)) }
    }
    return context.json(body, 200, ignoredHeader(asked.ignored))
  }
  const first = await start(inputs[0]!)
  let running: Running | undefined = first
  const pieces = async function* (): AsyncGenerator<string> {
    const results: GenerateResult[] = []
    try {
      for (const [index, input] of inputs.entries()) {
        running = index === 0 ? first : await start(input)
        for await (const event of running.events) {
          if (event.type === 'done') results.push(event.result)
          yield* chunksOf(head, event, asked, index)
        }
        running.end()
      }
      if (asked.includeUsage) yield sse(usageChunk(head, ...results))
      yield 'data: [DONE]\n\n'
    } catch (error) {
      yield sse(errorAnswer(error).body)
    }
  }
  return textStream(pieces(), {
    contentType: 'text/event-stream',
    heartbeat: ': waiting\n\n',
    headers: { ...first.headers, ...ignoredHeader(asked.ignored) },
    onEnd: () => running?.end(),
    drop: () => context.env.outgoing.destroy()
  })
}

/** Answers to all inputs in their order, so many at the same time; the first that fails ends the others. */
async function allResults(
  inputs: readonly GenerateRequest['input'][],
  atOnce: number,
  start: (input: GenerateRequest['input']) => Promise<Running>
): Promise<Awaited<ReturnType<typeof collected>>[]> {
  const results: Awaited<ReturnType<typeof collected>>[] = []
  for (let from = 0; from < inputs.length; from += atOnce) {
    const open = new Set<Running>()
    let isOver = false
    const answers = inputs.slice(from, from + atOnce).map(async input => {
      const running = await start(input)
      open.add(running)
      if (isOver) running.end()
      return await collected(running.events)
    })
    try {
      results.push(...(await Promise.all(answers)))
    } finally {
      isOver = true
      for (const { end } of open) end()
      await Promise.allSettled(answers)
    }
  }
  return results
}
