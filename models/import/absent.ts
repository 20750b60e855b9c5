import { UnsupportedModelError } from '../errors.ts'
import type { Architecture } from './architectures/architecture.ts'

/**
 * Refuses models of an architecture that have what others of it have not.
 *
 * @param given the number under a key of a format
 * @throws {UnsupportedModelError} naming the key, and what it stands for.
 */
export function refuseOthers(
  file: string,
  format: 'huggingFace' | 'gguf',
  { absent = [] }: Architecture,
  given: (key: string) => unknown
): void {
  for (const rule of absent) {
    // llama.cpp takes what is left out for none.
    const value = given(rule[format]) ?? (format === 'gguf' ? 0 : rule.default)
    if (value === 0) continue
    throw new UnsupportedModelError(
      `${file}: ${rule[format]} is ${JSON.stringify(value).slice(0, 40)}: ${rule.what} are not supported`
    )
  }
}

/** Their keys in a format. */
export function absentKeys({ absent = [] }: Architecture, format: 'huggingFace' | 'gguf'): string[] {
  return absent.map(rule => rule[format])
}
