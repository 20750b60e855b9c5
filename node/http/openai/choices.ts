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
  openingOf,
  usageChunk,
  usageOf
} from './answers.ts'
import type { ChoicesRequest } from './schema.ts'

/** Choices of one request that are drawn at the same time. */
const AT_ONCE = 8

/** Answers a request with all of its choices: one, or several of each of its prompts. */
export async function answerChoices(
  head: AnswerHead,
  asked: ChoicesRequest,
  context: HttpContext,
  components: Components
): Promise<Response> {
  const { requests, choicesOfEach } = asked
  if (requests.length === 1) return await answerAs(openAiForm(head, asked), asked, context, components)
  const start = (request: GenerateRequest) => startAnswer(context, components, request)
  if (!asked.stream) {
    const atOnce = Math.min(AT_ONCE, holderOf(context)?.places?.limit ?? AT_ONCE)
    const results = await allResults(requests, atOnce, start)
    const choices = results.map(({ result, logprobs }, index) =>
      choiceOf(head, result, asked.logprobs ? logprobs : null, index)
    )
    const all = results.map(({ result }) => result)
    const body = {
      ...envelope(head),
      choices,
      usage: usageOf(all, choicesOfEach),
      edgeshard: { answers: all.map(detailsOf) }
    }
    return context.json(body, 200, ignoredHeader(asked.ignored))
  }
  const first = await start(requests[0]!)
  let running: Running | undefined = first
  const pieces = async function* (): AsyncGenerator<string> {
    const results: GenerateResult[] = []
    try {
      for (const [index, request] of requests.entries()) {
        running = index === 0 ? first : await start(request)
        yield* openingOf(head, index)
        for await (const event of running.events) {
          if (event.type === 'done') results.push(event.result)
          yield* chunksOf(head, event, asked, index)
        }
        running.end()
      }
      if (asked.includeUsage) yield sse(usageChunk(head, results, choicesOfEach))
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

/** Answers to all requests in their order, so many at the same time; the first that fails ends the others. */
async function allResults(
  requests: readonly GenerateRequest[],
  atOnce: number,
  start: (request: GenerateRequest) => Promise<Running>
): Promise<Awaited<ReturnType<typeof collected>>[]> {
  const results: Awaited<ReturnType<typeof collected>>[] = []
  for (let from = 0; from < requests.length; from += atOnce) {
    const open = new Set<Running>()
    let isOver = false
    const answers = requests.slice(from, from + atOnce).map(async request => {
      const running = await start(request)
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
