/** Characters that are held back at most, whoever makes them so fast. */
const MAX_GATHERED_CHARS = 64 << 10

/**
 * Parts put together so that no two follow each other within `gatherMs`, for readers to whom each one costs something. What comes
 * after a pause waits for nothing, and so does the end. What goes wrong on the way is for `parts` to say as a part.
 */
export async function* gathered(parts: AsyncGenerator<string>, gatherMs: number): AsyncGenerator<string> {
  let next = parts.next()
  let freeMs = 0
  try {
    for (;;) {
      let got: IteratorResult<string> | undefined = await next
      let text = ''
      while (got?.done === false) {
        text += got.value
        next = parts.next()
        const waitMs = text.length < MAX_GATHERED_CHARS ? freeMs - performance.now() : 0
        got = waitMs > 0 ? await within(next, waitMs) : undefined
      }
      freeMs = performance.now() + gatherMs
      if (text !== '') yield text
      if (got?.done === true) return
    }
  } finally {
    // The reader has left: a part that fails now fails nobody.
    next.catch(() => undefined)
    await parts.return(undefined)
  }
}

/** What is there within so long, else undefined. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>(resolve => {
    timer = setTimeout(resolve, ms, undefined)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
