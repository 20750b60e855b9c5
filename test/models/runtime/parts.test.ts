import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { LayerFile } from '../../../models/manifest.ts'
import { partsOf } from '../../../models/runtime/parts.ts'

const layersOf = (sizes: number[]) => sizes.map(bytes => ({ bytes }) as LayerFile)

describe('a range is cut into parts', () => {
  const cut = (sizes: number[], count: number, leastBytes = 1) =>
    partsOf({ layers: layersOf(sizes) }, [0, sizes.length], { count, leastBytes })

  test('of about the same bytes', () => {
    expect(cut([10, 10, 10, 10], 2)).toEqual([
      [0, 2],
      [2, 4]
    ])
    // An embedding and a head are larger than a layer between them.
    expect(cut([30, 10, 10, 10, 10, 10, 30], 2)).toEqual([
      [0, 3],
      [3, 7]
    ])
    expect(cut([30, 10, 10, 10, 10, 10, 30], 3)).toEqual([
      [0, 1],
      [1, 5],
      [5, 7]
    ])
  })

  test('of which none is small, and not more than there are layers', () => {
    expect(cut([10, 10, 10, 10], 4, 41)).toEqual([[0, 4]])
    expect(cut([10, 10, 10, 10], 4, 20)).toHaveLength(2)
    expect(cut([10, 10], 8)).toHaveLength(2)
    expect(cut([1000, 1], 8)).toHaveLength(2)
  })

  test('that follow each other and leave nothing out, whatever the sizes', () => {
    const sizes = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 40 })
    const check = (sizes: number[], count: number, leastBytes: number, start: number) => {
      const from = start % sizes.length
      const parts = partsOf({ layers: layersOf(sizes) }, [from, sizes.length], { count, leastBytes })
      expect(parts[0]![0]).toBe(from)
      expect(parts.at(-1)![1]).toBe(sizes.length)
      expect(parts.length).toBeLessThanOrEqual(count)
      parts.forEach(([start, end], i) => {
        expect(end).toBeGreaterThan(start)
        if (i > 0) expect(start).toBe(parts[i - 1]![1])
      })
    }
    const some = [
      sizes,
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 5000 }),
      fc.nat(40)
    ] as const
    fc.assert(fc.property(...some, check))
  })
})
