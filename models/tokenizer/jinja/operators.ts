import { formatPercent } from './methods.ts'
import { compare, contains, equal, Float, kindOf, numeric, Tuple, type Value, write } from './values.ts'

/** `left operator right`, as Python computes it; `and` and `or` are the evaluator's, which may not need the right one. */
export function operate(operator: string, left: Value, right: Value): Value {
  switch (operator) {
    case '==':
      return equal(left, right)
    case '!=':
      return !equal(left, right)
    case '<':
      return compare(left, right) < 0
    case '>':
      return compare(left, right) > 0
    case '<=':
      return compare(left, right) <= 0
    case '>=':
      return compare(left, right) >= 0
    case 'in':
      return contains(right, left)
    case 'not in':
      return !contains(right, left)
    case '~':
      return write(left) + write(right)
    case '+':
      if (typeof left === 'string' && typeof right === 'string') return left + right
      if (Array.isArray(left) && Array.isArray(right)) {
        return left instanceof Tuple ? (Tuple.of<Value>(...left, ...right) as Tuple) : [...left, ...right]
      }
      break
    case '*':
      if (typeof right === 'number' && (typeof left === 'string' || Array.isArray(left)))
        return repeated(left, right)
      if (typeof left === 'number' && (typeof right === 'string' || Array.isArray(right)))
        return repeated(right, left)
      break
    case '%':
      if (typeof left === 'string') return formatPercent(left, right)
      break
  }
  return calculate(operator, left, right)
}

function calculate(operator: string, left: Value, right: Value): Value {
  const [a, b] = [numeric(left), numeric(right)]
  if (a === undefined || b === undefined) {
    throw new Error(`${kindOf(left)} ${operator} ${kindOf(right)} cannot be computed`)
  }
  const float = left instanceof Float || right instanceof Float
  const result = (value: number) => (float ? new Float(value) : value)
  if (b === 0 && ['/', '//', '%'].includes(operator)) throw new Error('a division by zero')
  switch (operator) {
    case '+':
      return result(a + b)
    case '-':
      return result(a - b)
    case '*':
      return result(a * b)
    case '/':
      return new Float(a / b)
    case '//':
      return result(Math.floor(a / b))
    case '%':
      return result(a - b * Math.floor(a / b))
    case '**':
      return b < 0 ? new Float(a ** b) : result(a ** b)
  }
  throw new Error(`the operator ${operator} is not known here`)
}

function repeated(value: string | Value[], times: number): Value {
  const count = Math.max(0, times)
  return typeof value === 'string' ? value.repeat(count) : Array.from({ length: count }, () => value).flat()
}
