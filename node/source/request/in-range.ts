import { RequestError } from '../../errors.ts'

/** @throws {RequestError} naming `param` where the number is not in [min, max] */
export function number(param: string, value: number, min: number, max: number): number {
  if (value >= min && value <= max) return value
  throw new RequestError(`${param} is ${value}; it must be from ${min} to ${max}`, param)
}

/** The same of a whole number. */
export function integer(param: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value)) return number(param, value, min, max)
  throw new RequestError(`${param} is ${value}; it must be a whole number from ${min} to ${max}`, param)
}
