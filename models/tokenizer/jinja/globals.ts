import { Scope } from './scope.ts'
import { type Call, type Callable, iterate, Namespace, Tuple, type Value, write } from './values.ts'

const MAX_RANGE = 100_000

const range: Callable = call => {
  const [start, stop] = call.args.length > 1 ? [call.int(0), call.int(1)] : [0, call.int(0)]
  const step = call.int(2, undefined, 1)
  const count = Math.max(0, Math.ceil((stop - start) / step))
  // Jinja's own sandbox has this limit, too.
  if (!(count <= MAX_RANGE)) throw new Error(`a range of ${count}, more than ${MAX_RANGE}`)
  return Array.from({ length: count }, (_, i) => start + i * step)
}

/** Fields of a dict, of pairs, and by their names. */
function fieldsOf({ args, named }: Call): [Value, Value][] {
  const [first] = args
  const pairs =
    first instanceof Map ? [...first] : iterate(first).map(pair => iterate(pair) as [Value, Value])
  return [...pairs, ...named]
}

const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December']
]
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']

/** datetime.strftime() in the C locale. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const hour12 = date.getHours() % 12 || 12
  const directives: Record<string, string> = {
    '%': '%',
    A: DAYS[date.getDay()]!,
    a: DAYS[date.getDay()]!.slice(0, 3),
    B: MONTHS[date.getMonth()]!,
    b: MONTHS[date.getMonth()]!.slice(0, 3),
    d: two(date.getDate()),
    e: String(date.getDate()).padStart(2),
    H: two(date.getHours()),
    I: two(hour12),
    M: two(date.getMinutes()),
    m: two(date.getMonth() + 1),
    p: date.getHours() < 12 ? 'AM' : 'PM',
    S: two(date.getSeconds()),
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100)
  }
  return format.replace(/%(-?)(.)/g, (all, plain: string, directive: string) => {
    const text = directives[directive]
    if (text === undefined) throw new Error(`strftime_now(): ${all} is not known here`)
    return plain === '-' ? text.replace(/^0(?=\d)/, '') : text
  })
}

/** The names that every template may use: Jinja's own, and those of transformers. */
export function globals(): Scope {
  const scope = new Scope()
  const names: Record<string, Value> = {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    dict: call => new Map(fieldsOf(call)),
    list: call => [...iterate(call.get(0))],
    namespace: call => new Namespace(new Map(fieldsOf(call).map(([name, value]) => [write(name), value]))),
    tuple: call => Tuple.from<Value>(iterate(call.get(0))) as Tuple,
    raise_exception: call => {
      throw new Error(write(call.get(0)))
    },
    strftime_now: call => strftime(new Date(), call.text(0))
  }
  for (const [name, value] of Object.entries(names)) scope.set(name, value)
  return scope
}
