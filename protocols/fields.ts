import { z } from 'zod'
import { SHA256 } from '../models/sha256.ts'
import { MAX_ERROR_TEXT_CHARS } from './constants.ts'
import { plainText } from './text.ts'

/** A SHA-256 in lower-case hex: the name of a model or of a blob. */
export const sha256 = z.string().regex(SHA256)

/** A text for people, which goes to terminals and pages: one line without control characters, whatever the peer sent. */
export const reason = z
  .string()
  .max(MAX_ERROR_TEXT_CHARS)
  .transform(text => plainText(text))

/** What a request is called on every device that works on it. */
export const REQUEST_ID = /^[A-Za-z0-9_-]{1,64}$/
