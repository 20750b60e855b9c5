import type { LatentSpec } from '../block-schema.ts'
import { layerSizes } from '../blocks.ts'
import { expertParts, type PartOptions } from './naming.ts'
import type { Part } from './weights.ts'

/**
 * The checkpoint's tensors of which those of attention over latent vectors are made in decoder layer `layer` (1..L); undefined
 * where they are named and lie as others. What brings latent vectors to keys and to values is one projection, of each head rows
 * for its key and then for its value (`key_value_up` in a naming), or two, in stacks of heads.
 */
export function latentParts(
  name: string,
  layer: number,
  { size, unturned, value, query }: LatentSpec,
  { naming, shape, interleaved }: PartOptions
): Part[] | undefined {
  const { heads, headSize } = layerSizes(shape, layer)
  const rotated = headSize - size
  const named = (key: string) => naming[key]!.map(pattern => pattern.replace('#', String(layer - 1)))
  const turned = (count: number, first: number): Pick<Part, 'interleaved'> =>
    interleaved ? { interleaved: { heads: count, rotated, first } } : {}
  switch (name) {
    case 'query': {
      const [own = ''] = named(query === undefined ? 'query' : 'query_up')
      return [{ name: own, rows: heads * (unturned + rotated), ...turned(heads, unturned) }]
    }
    case 'latent':
      return [{ name: named(name)[0]!, rows: headSize, ...turned(1, size) }]
    case 'key_up':
    case 'value_up': {
      const rows = name === 'key_up' ? unturned : value
      if (naming.key_value_up === undefined) return expertParts(named(name), heads * rows, heads)
      const each = unturned + value
      const before = name === 'key_up' ? 0 : unturned
      return Array.from({ length: heads }, (_, head) => ({
        name: named('key_value_up')[0]!,
        rows,
        start: head * each + before,
        of: heads * each
      }))
    }
    default:
      return undefined
  }
}
