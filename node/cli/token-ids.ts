import { InvalidArgumentError } from 'commander'

/** `1,403,407`: ids of tokens. */
export function tokenIds(text: string): number[] {
  if (!/^\d+(,\d+)*$/.test(text)) {
    throw new InvalidArgumentError('Give ids of tokens with commas between them, such as 1,403,407.')
  }
  return text.split(',').map(Number)
}
