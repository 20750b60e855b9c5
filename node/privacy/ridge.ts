/** Row-major samples: `count` rows of `width` numbers. */
export interface Rows {
  readonly data: Float32Array
  readonly count: number
  readonly width: number
}

/** Shares of the mean diagonal of the covariance that are tried as the penalty. */
const PENALTIES = [1e-4, 1e-2, 1]
/** Of the samples, each so many-th is kept from the fit, to choose the penalty by. */
const HELD_BACK = 10

/** An affine map: `apply` takes rows of `inputs.width` and gives rows of `targets.width`. */
export interface AffineMap {
  apply(rows: Rows): Rows
}

/**
 * Ridge regression (Hoerl and Kennard 1970) of centred targets on centred inputs. The penalty is the one of PENALTIES whose
 * map is nearest to the samples that were kept from the fit, in the mean square.
 */
export function fitRidge(inputs: Rows, targets: Rows): AffineMap {
  const fitted = (row: number) => row % HELD_BACK !== 0
  const [x, y] = [pick(inputs, fitted), pick(targets, fitted)]
  const [heldX, heldY] = [pick(inputs, row => !fitted(row)), pick(targets, row => !fitted(row))]
  const [meanX, meanY] = [mean(x), mean(y)]
  const [centredX, centredY] = [minus(x, meanX), minus(y, meanY)]
  const covariance = transposedProduct(centredX, centredX)
  const cross = transposedProduct(centredX, centredY)
  const size = x.width
  let trace = 0
  for (let i = 0; i < size; i++) trace += covariance[i * size + i]!
  let best: { map: AffineMap; error: number } | undefined
  for (const penalty of PENALTIES) {
    const system = covariance.slice()
    for (let i = 0; i < size; i++) system[i * size + i]! += Math.max((penalty * trace) / size, Number.EPSILON)
    const weights = solve(system, cross, size, y.width)
    const map: AffineMap = { apply: rows => product(minus(rows, meanX), weights, meanY) }
    const error = squaredDistance(map.apply(heldX), heldY)
    if (best === undefined || error < best.error) best = { map, error }
  }
  return best!.map
}

function pick({ data, count, width }: Rows, wanted: (row: number) => boolean): Rows {
  const rows = Array.from({ length: count }, (_, row) => row).filter(wanted)
  const picked = new Float32Array(rows.length * width)
  rows.forEach((row, at) => {
    picked.set(data.subarray(row * width, (row + 1) * width), at * width)
  })
  return { data: picked, count: rows.length, width }
}

function mean({ data, count, width }: Rows): Float64Array {
  const sums = new Float64Array(width)
  for (let row = 0; row < count; row++) for (let i = 0; i < width; i++) sums[i]! += data[row * width + i]!
  return sums.map(sum => sum / count)
}

function minus({ data, count, width }: Rows, by: Float64Array): Rows {
  return { data: data.map((value, at) => value - by[at % width]!), count, width }
}

/** AᵀB of rows A and B: (A.width, B.width). */
function transposedProduct(a: Rows, b: Rows): Float64Array {
  const sums = new Float64Array(a.width * b.width)
  for (let row = 0; row < a.count; row++) {
    for (let i = 0; i < a.width; i++) {
      const factor = a.data[row * a.width + i]!
      if (factor === 0) continue
      const [from, to] = [row * b.width, i * b.width]
      for (let j = 0; j < b.width; j++) sums[to + j]! += factor * b.data[from + j]!
    }
  }
  return sums
}

function product({ data, count, width }: Rows, weights: Float64Array, offset: Float64Array): Rows {
  const columns = offset.length
  const result = new Float32Array(count * columns)
  const sums = new Float64Array(columns)
  for (let row = 0; row < count; row++) {
    sums.set(offset)
    for (let i = 0; i < width; i++) {
      const factor = data[row * width + i]!
      for (let j = 0; j < columns; j++) sums[j]! += factor * weights[i * columns + j]!
    }
    result.set(sums, row * columns)
  }
  return { data: result, count, width: columns }
}

/**
 * X of `matrix` X = `right` for a symmetric positive definite matrix (size, size), which is overwritten: by its Cholesky
 * factor L, forward and back.
 */
export function solve(
  matrix: Float64Array,
  right: Float64Array,
  size: number,
  columns: number
): Float64Array {
  for (let j = 0; j < size; j++) {
    for (let i = j; i < size; i++) {
      let sum = matrix[i * size + j]!
      for (let k = 0; k < j; k++) sum -= matrix[i * size + k]! * matrix[j * size + k]!
      matrix[i * size + j] = i === j ? Math.sqrt(sum) : sum / matrix[j * size + j]!
    }
  }
  const solution = right.slice()
  const subtract = (row: number, other: number, factor: number) => {
    for (let c = 0; c < columns; c++) solution[row * columns + c]! -= factor * solution[other * columns + c]!
  }
  const divide = (row: number) => {
    for (let c = 0; c < columns; c++) solution[row * columns + c]! /= matrix[row * size + row]!
  }
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < i; k++) subtract(i, k, matrix[i * size + k]!)
    divide(i)
  }
  for (let i = size - 1; i >= 0; i--) {
    for (let k = i + 1; k < size; k++) subtract(i, k, matrix[k * size + i]!)
    divide(i)
  }
  return solution
}

function squaredDistance(a: Rows, b: Rows): number {
  return a.data.reduce((sum, value, at) => sum + (value - b.data[at]!) ** 2, 0)
}
