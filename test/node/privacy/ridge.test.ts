import { describe, expect, it } from 'vitest'
import { NearestRow, normalised } from '../../../node/privacy/nearest.ts'
import { Projection } from '../../../node/privacy/projection.ts'
import { fitRidge, type Rows, solve } from '../../../node/privacy/ridge.ts'
import { prng } from '../../fixtures/prng.ts'

function randomRows(seed: number, count: number, width: number): Rows {
  const random = prng(seed)
  return { data: Float32Array.from({ length: count * width }, () => random() - 0.5), count, width }
}

const largest = (values: ArrayLike<number>) => Math.max(...Array.from(values, Math.abs))

describe('ridge regression', () => {
  it('finds an affine map that is there', () => {
    const inputs = randomRows(1, 400, 12)
    const weights = randomRows(2, 12, 5)
    const map = ({ data, count }: Rows): Rows => ({
      data: Float32Array.from({ length: count * 5 }, (_, at) => {
        const [row, column] = [Math.floor(at / 5), at % 5]
        let sum = column
        for (let i = 0; i < 12; i++) sum += data[row * 12 + i]! * weights.data[i * 5 + column]!
        return sum
      }),
      count,
      width: 5
    })
    const fresh = randomRows(3, 50, 12)
    const found = fitRidge(inputs, map(inputs)).apply(fresh)
    expect(largest(found.data.map((value, at) => value - map(fresh).data[at]!))).toBeLessThan(0.01)
  })

  it('gives the mean where inputs say nothing', () => {
    const targets: Rows = {
      data: Float32Array.from({ length: 400 }, (_, i) => 3 + (i % 2)),
      count: 400,
      width: 1
    }
    const found = fitRidge(randomRows(4, 400, 6), targets).apply(randomRows(5, 100, 6))
    expect(largest(found.data.map(value => value - 3.5))).toBeLessThan(0.5)
  })

  it('solves what it is given', () => {
    const size = 7
    const { data } = randomRows(6, size, size)
    const matrix = new Float64Array(size * size)
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) {
        for (let k = 0; k < size; k++) matrix[i * size + j]! += data[i * size + k]! * data[j * size + k]!
      }
      matrix[i * size + i]! += 0.1
    }
    const right = Float64Array.from(randomRows(7, size, 3).data)
    const solution = solve(matrix.slice(), right, size, 3)
    const residual = right.map((value, at) => {
      const [row, column] = [Math.floor(at / 3), at % 3]
      let sum = -value
      for (let k = 0; k < size; k++) sum += matrix[row * size + k]! * solution[k * 3 + column]!
      return sum
    })
    expect(largest(residual)).toBeLessThan(1e-9)
  })
})

it('the nearest row is the one of the largest cosine, whatever its length', () => {
  const rows = randomRows(8, 60, 16)
  const longer = { ...rows, data: rows.data.map((value, at) => value * (1 + Math.floor(at / 16))) }
  const nearest = new NearestRow({ ...rows, data: rows.data.map(value => value * 7) })
  for (const first of [0, 20, 40]) {
    const part = { data: longer.data.subarray(first * 16, (first + 20) * 16), count: 20, width: 16 }
    nearest.compare(normalised(part), first)
  }
  expect([...nearest.ids]).toEqual(Array.from({ length: 60 }, (_, row) => row))
})

it('a projection keeps who is nearest to whom, and leaves narrow rows as they are', () => {
  const rows = randomRows(9, 80, 600)
  const noise = randomRows(10, 80, 600)
  const near = { ...rows, data: rows.data.map((value, at) => value + 0.2 * noise.data[at]!) }
  const projection = new Projection(600, 256)
  const nearest = new NearestRow(projection.apply(near))
  nearest.compare(normalised(projection.apply(rows)), 0)
  expect([...nearest.ids]).toEqual(Array.from({ length: 80 }, (_, row) => row))
  expect(new Projection(256, 256).apply(rows)).toBe(rows)
})
