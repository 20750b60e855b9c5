import { createInterface } from 'node:readline/promises'

/** Asks a person in the terminal; anything but yes is no, so is an end of what is typed. */
export async function confirmed(
  question: string,
  { signal }: { signal?: AbortSignal } = {}
): Promise<boolean> {
  const asking = createInterface({ input: process.stdin, output: process.stderr })
  const interrupted = new AbortController()
  // A terminal that is asked for a line passes Ctrl-C to who asks.
  asking.once('SIGINT', () => interrupted.abort(new DOMException('interrupted', 'AbortError')))
  const until = signal === undefined ? interrupted.signal : AbortSignal.any([signal, interrupted.signal])
  const closed = new Promise<string>(resolve => asking.once('close', () => resolve('')))
  try {
    const typed = asking.question(`${question} [y/N] `, { signal: until })
    return /^y(es)?$/i.test((await Promise.race([typed, closed])).trim())
  } finally {
    asking.close()
  }
}
