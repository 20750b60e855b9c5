import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** Bytes between two collections: the dead buffers of socket, cipher and streams are a few times as many. */
const EVERY_BYTES = 2 * 1024 * 1024

/**
 * Growth of the heap from one collection of everything to the next. What lies in buffers counts, and V8's own
 * rule leaves a small heap like a node's so little room that a copy of weights fills it twenty times a second.
 */
const HEAP_GROWING_PERCENT = 200

type Collect = (options: { type: 'minor'; execution: 'sync' }) => void

let collect: Collect | undefined
let passed = 0

/**
 * Collects the young objects of this thread every few megabytes of bulk. Buffers weigh nothing in the young
 * generation, so it is collected too seldom for them; what then happens is a collection of everything, of 10 to 30 ms,
 * for which tokens wait. A young one takes less than one.
 */
export function passedBytes(bytes: number): void {
  passed += bytes
  if (passed < EVERY_BYTES) return
  passed = 0
  collect ??= exposed()
  collect({ type: 'minor', execution: 'sync' })
}

function exposed(): Collect {
  setFlagsFromString('--expose-gc')
  setFlagsFromString(`--heap-growing-percent=${HEAP_GROWING_PERCENT}`)
  return runInNewContext('gc') as Collect
}
