import { readFile } from 'node:fs/promises'
import { PRIORITIES, type Priority } from '../api.ts'
import type { ApiKey } from '../http/index.ts'
import { type ApiKeyOptions, apiKeyOf } from './api-key.ts'
import { InputError } from './errors.ts'

/** A line of a file with the keys of several, in words. */
export const KEY_LINE = `NAME KEY [ANSWERS_AT_ONCE] [${PRIORITIES.join('|')}]`
const LINE = new RegExp(
  `^(?<name>[\\w.-]{1,64})\\s+(?<key>\\S+)(?:\\s+(?<atOnce>[1-9]\\d{0,5}))?(?:\\s+(?<priority>${PRIORITIES.join('|')}))?$`
)

/**
 * The keys that a node asks for: the one that options or environment name, or, where that is a file of several lines, one
 * a line, `NAME KEY`, behind which may stand how many answers at once, and a priority (KEY_LINE). Empty lines and those that
 * begin with # are passed over.
 *
 * @throws {InputError} naming the line that is none
 */
export async function apiKeysOf(options: ApiKeyOptions): Promise<ApiKey[]> {
  const path =
    options.apiKey === undefined ? (options.apiKeyFile ?? process.env.EDGESHARD_API_KEY_FILE) : undefined
  const lines = path === undefined ? [] : await linesOf(path)
  if (path === undefined || lines.every(({ text }) => !/\s/.test(text))) {
    const key = await apiKeyOf(options)
    return key === undefined ? [] : [{ name: 'default', key }]
  }
  const keys = lines.map(({ text, number }) => {
    const { name, key, atOnce, priority } = LINE.exec(text)?.groups ?? {}
    if (name === undefined || key === undefined) {
      throw new InputError(`${path}:${number} is no "${KEY_LINE}"`)
    }
    return {
      name,
      key,
      ...(atOnce !== undefined && { atOnce: Number(atOnce) }),
      ...(priority !== undefined && { priority: priority as Priority })
    }
  })
  for (const field of ['name', 'key'] as const) {
    if (new Set(keys.map(key => key[field])).size < keys.length) {
      throw new InputError(`${path} has the same ${field} twice`)
    }
  }
  return keys
}

async function linesOf(path: string): Promise<{ text: string; number: number }[]> {
  const content = await readFile(path, 'utf8').catch(error => {
    throw new InputError(`the API key cannot be read: ${(error as Error).message}`, { cause: error })
  })
  return content
    .split('\n')
    .map((line, at) => ({ text: line.trim(), number: at + 1 }))
    .filter(({ text }) => text !== '' && !text.startsWith('#'))
}
