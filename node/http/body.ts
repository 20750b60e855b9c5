import { RequestError } from '../errors.ts'
import { BODY_SILENCE_MS, MAX_BODIES_BYTES, MAX_BODY_BYTES } from './constants.ts'
import { HttpError } from './errors.ts'
import type { HttpContext } from './request.ts'

/** Bytes of bodies that are being read now: the process's memory, however many servers it has. */
let held = 0

/**
 * A request's body as text, capped while it is read: by itself, together with those that are read at the same time, and in
 * how long it may be silent.
 *
 * @throws {HttpError} naming the cap; of a body that is too slow the connection ends with the answer
 */
export async function bodyText(context: HttpContext, maxBytes = MAX_BODY_BYTES): Promise<string> {
  checkEncoding(context)
  const tooLarge = () => new HttpError('body_too_large', `the body has more than ${maxBytes} bytes`)
  if (Number(context.req.header('content-length') ?? 0) > maxBytes) throw tooLarge()
  const parts: AsyncIterator<Buffer> = context.env.incoming.iterator({ destroyOnReturn: false })
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for (;;) {
      const { value, done } = await inTime(parts.next(), context)
      if (done === true) return utf8(Buffer.concat(chunks))
      bytes += value.length
      held += value.length
      if (bytes > maxBytes) throw tooLarge()
      if (held > MAX_BODIES_BYTES) {
        throw new HttpError(
          'too_many_requests',
          'the bodies that are being sent to this node are too large together; try again soon'
        )
      }
      chunks.push(value)
    }
  } finally {
    held -= bytes
  }
}

/** @throws {HttpError} for a body that is compressed, or no UTF-8 by its own word */
function checkEncoding({ req }: HttpContext): void {
  const encoding = req.header('content-encoding') ?? 'identity'
  if (encoding.toLowerCase() !== 'identity') {
    throw new HttpError('encoding_unsupported', 'bodies are not decompressed here: send it as it is')
  }
  const charset = /charset="?([\w-]+)/i.exec(req.header('content-type') ?? '')?.[1] ?? 'utf-8'
  if (!/^(utf-?8|us-ascii)$/i.test(charset)) {
    throw new RequestError(`the body says that it is ${charset}; JSON is UTF-8`)
  }
}

/** @throws {RequestError} for what is none: a Latin-1 text would be another than was meant */
function utf8(bytes: Buffer): string {
  try {
    // A byte order mark is passed over.
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new RequestError('the body is not UTF-8')
  }
}

async function inTime<T>(part: Promise<T>, context: HttpContext): Promise<T> {
  const { promise: silence, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    context.header('connection', 'close')
    reject(
      new HttpError(
        'body_too_slow',
        `nothing of the body came for ${BODY_SILENCE_MS / 1000} s; send it again`
      )
    )
  }, BODY_SILENCE_MS)
  try {
    return await Promise.race([part, silence])
  } finally {
    clearTimeout(timer)
    // What comes of it later was given up, and the connection with it.
    part.catch(() => undefined)
  }
}
