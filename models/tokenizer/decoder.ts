import type { Vocabulary } from './messages.ts'

/** Turns tokens into text as they come; what is given back never ends inside a character. */
export interface IncrementalDecoder {
  /** The characters that are complete with this token; '' while one is not. */
  push(id: number): string
  /** What is left at the end: an incomplete character becomes U+FFFD. */
  flush(): string
}

/** The bytes of one token; none for control tokens and for ids that the vocabulary does not have. */
export function tokenBytes({ bytes, offsets }: Vocabulary, id: number): Uint8Array {
  return bytes.subarray(offsets[id] ?? 0, offsets[id + 1] ?? 0)
}

/**
 * @param continuation the text goes on from another one, so that its leading space is part of it; otherwise it is
 * taken off, as a decode of the whole text does where the model's tokens begin words with one.
 * @param shown control tokens that are read as what they are called
 */
export function createDecoder(
  vocabulary: Vocabulary,
  continuation: boolean,
  shown: ReadonlySet<string> = new Set()
): IncrementalDecoder {
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })
  const controls = new Map(vocabulary.controls.filter(([, content]) => shown.has(content)))
  let toStrip = continuation ? 0 : vocabulary.stripStart
  const strip = (text: string): string => {
    if (toStrip === 0 || text === '') return text
    let start = 0
    while (start < toStrip && text[start] === ' ') start++
    toStrip = start === text.length ? toStrip - start : 0
    return text.slice(start)
  }
  return {
    push: id => {
      const control = controls.get(id)
      // What is left of a character before it becomes U+FFFD.
      if (control !== undefined) return strip(utf8.decode()) + control
      return strip(utf8.decode(tokenBytes(vocabulary, id), { stream: true }))
    },
    flush: () => strip(utf8.decode())
  }
}
