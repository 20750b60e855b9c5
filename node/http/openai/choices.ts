import type { GenerateRequest, GenerateResult } from '../../api.ts'
import { answerAs, ignoredHeader, pacedForComments, sse } from '../answer.ts'
import { errorAnswer } from '../errors.ts'
import { acceptRequest, type Components, type HttpContext, type RunningRequest } from '../request.ts'
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
  const running = acceptRequest(context, components, asked.stream ? 1 : Math.min(AT_ONCE, requests.length))
  if (!asked.stream) {
    const results = await allResults(requests, running)
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
  const first = await running.start(requests[0]!).catch(error => {
    running.end()
    throw error
  })
  const pieces = async function* (): AsyncGenerator<string> {
    const results: GenerateResult[] = []
    try {
      for (const [index, request] of requests.entries()) {
        const answer = index === 0 ? first : await running.start(request)
        yield* openingOf(head, index)
        for await (const event of asked.progress ? answer.events : pacedForComments(answer.events)) {
          if (event.type === 'done') results.push(event.result)
          yield* chunksOf(head, event, asked, index)
        }
        answer.end()
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
    onEnd: running.end,
    drop: () => context.env.outgoing.destroy()
  })
}

/** Answers to all requests in their order, as many at the same time as there are places; the first that fails ends the others. */
async function allResults(
  requests: readonly GenerateRequest[],
  running: RunningRequest
): Promise<Awaited<ReturnType<typeof collected>>[]> {
  const results: Awaited<ReturnType<typeof collected>>[] = []
  try {
    for (let from = 0; from < requests.length; from += running.atOnce) {
      const answerOf = async (request: GenerateRequest) =>
        await collected((await running.start(request)).events)
      // The others follow the first one to its place.
      const begun = from === 0 ? await running.start(requests[0]!) : undefined
      const answers = requests
        .slice(from, from + running.atOnce)
        .map((request, i) => (i === 0 && begun !== undefined ? collected(begun.events) : answerOf(request)))
      try {
        results.push(...(await Promise.all(answers)))
      } catch (error) {
        running.end()
        // Each lets go of what it holds.
        await Promise.allSettled(answers)
        throw error
      }
    }
    return results
  } finally {
    running.end()
  }
}
