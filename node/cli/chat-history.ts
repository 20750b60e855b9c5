import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writePrivate } from '../mesh/files.ts'

const historyPath = (home: string) => join(home, 'history.json')

/** Lines that were typed in earlier conversations of a home, the newest first; none where there is no such file, or it is damaged. */
export async function readHistory(home: string): Promise<string[]> {
  try {
    const lines: unknown = JSON.parse(await readFile(historyPath(home), 'utf8'))
    return Array.isArray(lines) ? lines.filter(line => typeof line === 'string') : []
  } catch {
    // What was typed before is a comfort: a conversation begins without it.
    return []
  }
}

/** Keeps them for the next conversation, in a file for its owner alone. Where that cannot be written they are forgotten. */
export async function keepHistory(home: string, lines: readonly string[]): Promise<void> {
  try {
    await writePrivate(historyPath(home), Buffer.from(JSON.stringify(lines)))
  } catch {
    // The conversation is over, and nobody asked for this.
  }
}
