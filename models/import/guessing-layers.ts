import { z } from 'zod'
import { CheckpointError } from '../errors.ts'
import type { Architecture } from './architectures/architecture.ts'

/** Layers behind the last one that guess further tokens (multi-token prediction): they are not read, unless one is asked for. */
const Count = z.int().min(0).max(16).nullish()

/**
 * How many of them config.json says that there are.
 *
 * @throws {CheckpointError} where that makes no sense.
 */
export function guessingLayers(
  file: string,
  config: Record<string, unknown>,
  { guesses }: Architecture
): number {
  if (guesses === undefined) return 0
  const parsed = Count.safeParse(config[guesses.huggingFace])
  if (parsed.success) return parsed.data ?? 0
  throw new CheckpointError(file, `${guesses.huggingFace}: ${parsed.error.issues[0]!.message}`)
}

/** The names of the tensors of `count` layers behind the model's own, which count from 0, and of those that begin with `apart`. */
export function namesOfGuessing(
  names: Iterable<string>,
  {
    prefix,
    layers,
    count,
    apart
  }: { prefix: string; layers: number; count: number; apart?: string | undefined }
): string[] {
  return [...names].filter(name => {
    if (apart !== undefined && name.startsWith(apart)) return true
    const layer = name.startsWith(prefix) ? Number(/^\d+(?=\.)/.exec(name.slice(prefix.length))?.[0]) : NaN
    return layer >= layers && layer < layers + count
  })
}

/** What their user should know of what was left out, or of what was kept of them; nothing where there is none of it. */
export function guessingNotices(names: readonly string[], keptBytes: number | undefined): string[] {
  if (names.length === 0) return []
  if (keptBytes === undefined)
    return [`${names.length} tensors of layers that guess further tokens are left out`]
  return [`the layer that guesses further tokens is kept, in ${(keptBytes / 1e6).toFixed(1)} MB`]
}
