import { Calls } from './calls.ts'
import { toPlain } from './errors.ts'
import { GpuProcessor } from './gpu-processor.ts'
import type { Alive, Answers, Call, Reply, Request, Started } from './messages.ts'
import { TellingProcessor } from './telling-processor.ts'

/** The process that holds all that this device computes on its GPU: a driver that crashes takes no more along. */
const say = (message: Reply | Started | Alive) => {
  // Whom it is for may be gone; then so is this process.
  process.send?.(message, () => undefined)
}
process.on('disconnect', () => process.exit())

try {
  const processor = new TellingProcessor(await GpuProcessor.start(), () => say({ alive: true }))
  const calls: Calls = new Calls(processor, (reply, request) => {
    say(reply.ok ? { ...reply, value: inOwnMemory(calls, request, reply.value) } : reply)
    if (request.op === 'stop') process.disconnect()
  })
  process.on('message', (request: Request) => calls.take(request))
  say({ started: true })
} catch (error) {
  say({ started: false, error: toPlain(error) })
}

/** Processes share no memory: what a thread leaves in a session's own goes along. */
function inOwnMemory(calls: Calls, call: Call, value: Answers[keyof Answers]): Answers[keyof Answers] {
  if (typeof value !== 'object') return value
  if ('outputs' in value) return { ...value, outputs: [] }
  if (call.op !== 'forward' || !('hidden' in value) || typeof value.hidden !== 'number') return value
  return { ...value, hidden: calls.decodeOutput(call.session, value.hidden) }
}
