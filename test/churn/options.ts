import { parseArgs } from 'node:util'

export interface ChurnOptions {
  minutes: number
  seed: number
}

export const USAGE =
  'usage: npm run churn -- [--minutes N] [--seed S]\n' +
  '  --minutes N  how long things happen to the mesh (60)\n' +
  '  --seed S     the same things in the same order for the same seed (1)\n'

/** @throws saying which option is wrong */
export function churnOptions(args: string[]): ChurnOptions {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: 'string', default: '60' },
      seed: { type: 'string', default: '1' }
    }
  })
  const whole = (name: 'minutes' | 'seed') => {
    if (!/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a whole number`)
    return Number(values[name])
  }
  return { minutes: whole('minutes'), seed: whole('seed') }
}
