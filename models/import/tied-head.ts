import type { Naming } from './naming.ts'
import type { WeightSource } from './weights.ts'

/** Floats compared at a time. */
const CHUNK_ELEMENTS = 2 * 1024 * 1024

/** Which tensors a checkpoint's embedding and head are made of. */
export interface TiedHead {
  naming: Naming
  tied: boolean
  notices: string[]
}

/**
 * Looks at what a checkpoint that calls its head tied really has. Under the head's name alone, the tensor is the
 * embedding, too; two that differ are not tied (as in transformers 5; version 4 dropped the head).
 */
export async function resolveTiedHead(
  source: WeightSource,
  naming: Naming,
  tied: boolean
): Promise<TiedHead> {
  const [embedding, output] = [naming.embedding![0]!, naming.output![0]!]
  const there = (name: string) => source.dims(name) !== undefined
  if (!tied || !there(output)) return { naming, tied, notices: [] }
  if (!there(embedding)) return { naming: { ...naming, embedding: [output] }, tied, notices: [] }
  if (await areEqual(source, embedding, output)) return { naming, tied, notices: [] }
  const notice =
    `tie_word_embeddings is true, but ${output} is not ${embedding}: the head that is in the file is used, as ` +
    'transformers 5 does (version 4 would not)'
  return { naming, tied: false, notices: [notice] }
}

async function areEqual(source: WeightSource, first: string, second: string): Promise<boolean> {
  const dims = source.dims(first)!
  if (dims.join() !== source.dims(second)!.join()) return false
  const [rows = 0, ...rest] = dims
  const columns = rest.reduce((product, n) => product * n, 1)
  const step = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(1, columns)))
  for (let start = 0; start < rows; start += step) {
    const end = Math.min(start + step, rows)
    const values = (await source.read(first, start, end)).floats()
    const others = (await source.read(second, start, end)).floats()
    if (values.some((value, i) => value !== others[i])) return false
  }
  return true
}
