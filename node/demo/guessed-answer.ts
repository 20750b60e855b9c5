import { ask } from './ask.ts'
import { DemoError } from './errors.ts'
import type { NodeProcess } from './node-process.ts'

/** Pieces of the text after which a device is taken away: the window of guesses is open by then. */
const PIECES_BEFORE_LOSS = 24

export interface GuessedAnswer {
  model: string
  prompt: string
  maxTokens: number
  /** What the same prompt was answered without guesses. */
  expected: readonly number[]
  write: (text: string) => void
  signal: AbortSignal
}

/**
 * Asks once more with guesses ahead of the model's own draft, and takes the device away that draws the tokens while guesses are
 * under way. Shows what became of the guesses.
 *
 * @param lose ends a device for good
 * @throws {DemoError} where the answer has other tokens than without guesses
 */
export async function answerWithGuesses(
  source: NodeProcess,
  nodes: readonly NodeProcess[],
  lose: (node: NodeProcess) => Promise<void>,
  { model, prompt, maxTokens, expected, write, signal }: GuessedAnswer
): Promise<void> {
  write(
    `\n${source.name} is asked the same with guesses ahead, and loses the last stage on the way: ${prompt}\n\n  `
  )
  let last: NodeProcess | undefined
  let losing: Promise<void> | undefined
  let pieces = 0
  const answer = await ask(
    source.api,
    { model, prompt, maxTokens, speculate: 'draft', signal },
    {
      onPlan: ({ stages }) => {
        last ??= nodes.find(({ peerId }) => peerId === stages.at(-1)!.peerId)
      },
      onText: text => {
        write(text)
        pieces++
        if (pieces < PIECES_BEFORE_LOSS || losing !== undefined || last === undefined || last === source)
          return
        write(` [${last.name} is killed] `)
        losing = lose(last)
      }
    }
  ).catch(async error => {
    throw await source.explain(error)
  })
  await losing
  const { guesses, recoveries, tokens } = answer
  const { sent = 0, held = 0, dropped = 0 } = guesses ?? {}
  const same = JSON.stringify(tokens) === JSON.stringify(expected)
  write(
    `\n\n  guesses: ${sent} sent, ${held} held, ${dropped} dropped; ${recoveries} stage lost and made good\n`
  )
  write(`  ${same ? 'equal' : 'DIFFERENT'}: ${tokens.length} tokens with guesses and a loss, and without\n`)
  if (!same) throw new DemoError('an answer with guesses differs from the one without')
}
