/** What there is to choose from, in words: `there is none`, `there is only tiny`, `there are tiny and mine`. */
export function thereIs(names: readonly string[]): string {
  if (names.length === 0) return 'there is none'
  return names.length === 1 ? `there is only ${names[0]}` : `there are ${listed(names)}`
}

/** `desk`, `desk and laptop`, `desk, laptop and mini-pc`. */
export function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`
}
