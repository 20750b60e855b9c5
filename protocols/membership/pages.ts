import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { LimitExceededError } from '../errors.ts'
import type { JsonStream } from '../json-stream.ts'
import { MAX_PAGE_STATEMENTS, MAX_PAGES } from './constants.ts'
import { pageMessage } from './messages.ts'
import type { Statement } from './statement.ts'

type Page = { statements: Statement[]; more: boolean }

/** Sends statements in pages; at least one, which may be empty. */
export async function sendPages(messages: JsonStream, statements: readonly Statement[]): Promise<void> {
  for (let at = 0; at === 0 || at < statements.length; at += MAX_PAGE_STATEMENTS) {
    const page = statements.slice(at, at + MAX_PAGE_STATEMENTS)
    const more = at + page.length < statements.length
    await messages.send({ type: 'statements', statements: page, more })
  }
}

/**
 * Reads pages to the last one.
 *
 * @param first - a page that has been read already
 */
export async function readPages(messages: JsonStream, first?: Page): Promise<Statement[]> {
  const statements: Statement[] = []
  let page = first
  for (let count = 0; ; count++) {
    if (count >= MAX_PAGES)
      throw new LimitExceededError(`a set of statements has more than ${MAX_PAGES} pages`)
    page ??= await messages.read(pageMessage, { timeoutMs: REQUEST_TIMEOUT_MS })
    statements.push(...page.statements)
    if (!page.more) return statements
    page = undefined
  }
}
