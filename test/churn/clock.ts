// Loaded before anything else by the nodes of `npm run churn` (NODE_OPTIONS): the time of day is off by as many ms as the file
// `clock-offset-ms` in the node's home says. Clocks that only count, as `performance.now` and timers, go on as they are.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const LOOK_MS = 250

const at = process.argv.indexOf('--home')
const home = at < 0 ? undefined : process.argv[at + 1]
if (home !== undefined) {
  const RealDate = globalThis.Date
  const realNow = RealDate.now
  let offsetMs = 0
  let lookedAtMs = Number.NEGATIVE_INFINITY
  const now = () => {
    if (performance.now() - lookedAtMs > LOOK_MS) {
      lookedAtMs = performance.now()
      offsetMs = offsetOf(join(home, 'clock-offset-ms'))
    }
    return realNow() + offsetMs
  }
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object,
    apply: () => new RealDate(now()).toString(),
    get: (target, key, receiver) => (key === 'now' ? now : Reflect.get(target, key, receiver))
  })
}

function offsetOf(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'))
  } catch {
    // Nobody has set this clock.
    return 0
  }
}
