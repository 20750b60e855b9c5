import { MAX_DIGITS } from './json-text.ts'
import { either } from './rules.ts'

/** What a number may be; bounds that are left out are none. */
export interface Bounds {
  min?: number | undefined
  max?: number | undefined
  /** The bound itself is out. */
  aboveMin?: boolean
  belowMax?: boolean
}

const MOST = 10 ** (MAX_DIGITS - 1)

/** Whole numbers within bounds; undefined: there is none. */
export function integersWithin({ min = -MOST, max = MOST, aboveMin, belowMax }: Bounds): string | undefined {
  const from = aboveMin && Number.isInteger(min) ? min + 1 : Math.ceil(min)
  const to = belowMax && Number.isInteger(max) ? max - 1 : Math.floor(max)
  return signed(Math.max(from, -MOST), Math.min(to, MOST))
}

/**
 * Numbers within bounds, with a fraction where all of [n, n + 1) is within them: of those between a bound and the next
 * whole number none. Undefined: there is none then.
 */
export function numbersWithin({ min = -MOST, max = MOST, aboveMin, belowMax }: Bounds): string | undefined {
  const fraction = `"." [0-9]{1,${MAX_DIGITS}}`
  const [low, high] = [Math.max(min, -MOST), Math.min(max, MOST)]
  const options: (string | undefined)[] = [
    integersWithin({ min, max, ...(aboveMin && { aboveMin }), ...(belowMax && { belowMax }) })
  ]
  const withFraction = (from: number, to: number) => {
    const digits = from > to ? undefined : unsigned(from, to)
    return digits && `${digits} ${fraction}`
  }
  // A fraction that is not zero ends in another digit.
  const strictly = `"." [0-9]{0,${MAX_DIGITS - 1}} [1-9]`
  const strict = (bound: number | undefined, isOut: boolean | undefined) =>
    isOut === true && bound !== undefined && Number.isInteger(bound) ? bound : undefined
  const above = strict(min, aboveMin)
  const below = strict(max, belowMax)
  const first = Math.max(0, Math.ceil(low))
  const last = Math.ceil(high) - 1
  options.push(
    withFraction(
      above === undefined ? first : Math.max(first, above + 1),
      Math.min(last, Math.floor(high) - 1)
    )
  )
  if (above !== undefined && above >= 0 && above < Math.floor(high)) options.push(`"${above}" ${strictly}`)
  const lastBelow = Math.floor(-low) - 1
  const firstBelow = Math.max(0, Math.ceil(-high))
  const negative = withFraction(
    below === undefined ? firstBelow : Math.max(firstBelow, -below + 1),
    lastBelow
  )
  options.push(negative && `"-" ${negative}`)
  if (below !== undefined && below <= 0 && -below <= lastBelow) options.push(`"-${-below}" ${strictly}`)
  const some = options.filter(option => option !== undefined)
  return some.length === 0 ? undefined : either(some)
}

function signed(from: number, to: number): string | undefined {
  if (from > to) return undefined
  const options: string[] = []
  if (from < 0) options.push(`"-" ${unsigned(Math.max(1, -to), -from)}`)
  if (to >= 0) options.push(unsigned(Math.max(0, from), to))
  return either(options)
}

/**
 * Digits of the whole numbers from `from` to `to`, neither below 0. Lengths of which all numbers are in are one option:
 * xgrammar takes a long list of them for one that may begin with zeros.
 */
function unsigned(from: number, to: number): string {
  const options: string[] = from === 0 ? ['"0"'] : []
  let whole: [first: number, last: number] | undefined
  for (let length = 1; length <= MAX_DIGITS; length++) {
    const [smallest, largest] = [10 ** (length - 1), 10 ** length - 1]
    const [least, most] = [Math.max(from, smallest), Math.min(to, largest)]
    if (least > most) continue
    if (least === smallest && most === largest) whole = [whole?.[0] ?? length, length]
    else options.push(...ofLength(String(least), String(most)))
  }
  if (whole !== undefined) options.push(`[1-9] [0-9]{${whole[0] - 1},${whole[1] - 1}}`)
  return either(options)
}

/** Digits between two numbers of as many. */
function ofLength(least: string, most: string): string[] {
  if (least === '') return ['""']
  const [a, b] = [Number(least[0]), Number(most[0])]
  const rest = least.length - 1
  const free = rest === 0 ? '' : ` [0-9]{${rest},${rest}}`
  const isLow = /^0*$/.test(least.slice(1))
  const isHigh = /^9*$/.test(most.slice(1))
  if (a === b) {
    if (isLow && isHigh) return [`[${a}]${free}`]
    return [`"${a}" ${either(ofLength(least.slice(1), most.slice(1)))}`]
  }
  const options: string[] = []
  const [first, last] = [isLow ? a : a + 1, isHigh ? b : b - 1]
  if (!isLow) options.push(`"${a}" ${either(ofLength(least.slice(1), '9'.repeat(rest)))}`)
  if (first <= last) options.push(`[${first}-${last}]${free}`)
  if (!isHigh) options.push(`"${b}" ${either(ofLength('0'.repeat(rest), most.slice(1)))}`)
  return options
}
