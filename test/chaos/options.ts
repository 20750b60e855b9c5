import { parseArgs } from 'node:util'

export interface ChaosOptions {
  rounds: number
  seed: number
  /** Requests at once, of the second part. */
  requests: number
  lab: boolean
}

export const USAGE =
  'usage: npm run chaos -- [--rounds N] [--seed S] [--requests N] [--lab]\n' +
  '  --rounds N    answers that are disturbed (20)\n' +
  '  --seed S      the same disturbances for the same seed (1)\n' +
  '  --requests N  answers at once, some of whose clients leave (64); 0 leaves this part out\n' +
  '  --lab         devices in network namespaces, with cables that can be unplugged and slowed\n'

/** @throws saying which option is wrong */
export function chaosOptions(args: string[]): ChaosOptions {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string', default: '20' },
      seed: { type: 'string', default: '1' },
      requests: { type: 'string', default: '64' },
      lab: { type: 'boolean', default: false }
    }
  })
  const whole = (name: 'rounds' | 'seed' | 'requests') => {
    if (!/^\d{1,9}$/.test(values[name])) throw new Error(`--${name} ${values[name]} is not a whole number`)
    return Number(values[name])
  }
  return { rounds: whole('rounds'), seed: whole('seed'), requests: whole('requests'), lab: values.lab }
}
