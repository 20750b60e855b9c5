/** A text has too few words for the prompts that are wanted of it. */
export class ShortTextError extends Error {
  override readonly name = 'ShortTextError'
  readonly code = 'text_too_short'
}

export interface CutOptions {
  /** Tokens of each prompt, exactly. */
  promptTokens: number
  prompts: number
  /** Position in the text at which the first one begins. */
  seed: number
  /** Tokens of a text as a prompt. */
  countTokens: (text: string) => Promise<number>
}

/** Starts that may be tried for each prompt: after most words, a prompt of exactly so many tokens can be cut. */
const STARTS_PER_PROMPT = 16
/** Distance of the first prompts of two seeds, in words; a prime, so that seeds meet seldom. */
const SEED_STEP = 7919

/**
 * Cuts prompts of exactly `promptTokens` tokens out of a text, one behind the other, round its end if need be.
 *
 * @throws {ShortTextError} when the text is too short
 */
export async function cutPrompts(text: string, options: CutOptions): Promise<string[]> {
  const { promptTokens, prompts, seed, countTokens } = options
  const words = text.split(/\s+/).filter(word => word !== '')
  // Every word is a token at least, so no prompt has more words than tokens.
  if (words.length < 2 * promptTokens) {
    throw new ShortTextError(
      `the text has ${words.length} words: give one of at least ${2 * promptTokens} to cut prompts of ${promptTokens} tokens from`
    )
  }
  const found: string[] = []
  let start = (seed * SEED_STEP) % words.length
  for (let tries = 0; found.length < prompts; tries++) {
    if (tries === STARTS_PER_PROMPT * prompts) {
      throw new ShortTextError(
        `no ${prompts} prompts of exactly ${promptTokens} tokens can be cut from the text`
      )
    }
    const window = Array.from({ length: promptTokens }, (_, i) => words[(start + i) % words.length]!)
    const cut = await cutOne(window, promptTokens, countTokens)
    if (cut !== undefined) found.push(cut.text)
    start = (start + (cut?.words ?? 1)) % words.length
  }
  return found
}

/** The longest beginning of some words with no more tokens than wanted, filled up with letters of the next word. */
async function cutOne(
  window: readonly string[],
  promptTokens: number,
  countTokens: (text: string) => Promise<number>
): Promise<{ text: string; words: number } | undefined> {
  const joined = (count: number) => window.slice(0, count).join(' ')
  let [fits, tooMany] = [0, window.length + 1]
  while (tooMany - fits > 1) {
    const count = (fits + tooMany) >> 1
    const tokens = await countTokens(joined(count))
    if (tokens === promptTokens) return { text: joined(count), words: count }
    if (tokens < promptTokens) fits = count
    else tooMany = count
  }
  const rest = window[fits] ?? ''
  for (let letters = 1; letters <= rest.length; letters++) {
    const text = `${joined(fits)} ${rest.slice(0, letters)}`.trimStart()
    const tokens = await countTokens(text)
    if (tokens === promptTokens) return { text, words: fits + 1 }
    if (tokens > promptTokens) return undefined
  }
  return undefined
}
