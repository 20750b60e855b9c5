import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { InputError } from './errors.ts'

/** Where the key of an API comes from. */
export interface ApiKeyOptions {
  apiKey?: string | undefined
  apiKeyFile?: string | undefined
}

/** @param whose what the key opens, for the help */
export function addApiKeyOptions(command: Command, whose: string): Command {
  return command
    .option(
      '--api-key-file <file>',
      `file that holds the API key of ${whose} (or $EDGESHARD_API_KEY_FILE, or the key in $EDGESHARD_API_KEY)`
    )
    .option(
      '--api-key <key>',
      'the key itself; every user of this device can read it in the list of processes'
    )
}

/**
 * The key that the options name, else the environment; undefined where neither does.
 *
 * @throws {InputError} for a file that cannot be read or holds no key
 */
export async function apiKeyOf({ apiKey, apiKeyFile }: ApiKeyOptions): Promise<string | undefined> {
  if (apiKey !== undefined) return apiKey
  const path = apiKeyFile ?? process.env.EDGESHARD_API_KEY_FILE
  if (path === undefined) return process.env.EDGESHARD_API_KEY
  const text = await readFile(path, 'utf8').catch(error => {
    throw new InputError(`the API key cannot be read: ${(error as Error).message}`, { cause: error })
  })
  const key = text.trim()
  if (!/^\S+$/.test(key))
    throw new InputError(`${path} holds no API key: one word is expected here, the key alone`)
  return key
}
