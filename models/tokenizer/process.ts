import { Worker } from 'node:worker_threads'
import type { WorkerCall, WorkerInit, WorkerReply } from './messages.ts'

/** Enough for a vocabulary of 256,000 tokens; a template that builds a text without end stops here. */
const MAX_HEAP_MB = 1024
/** V8 would let short-lived objects grow to 48: with 8 Llama-2's tokenizer takes 25 MB less and no longer. */
const YOUNG_HEAP_MB = 8
const OWN_EXTENSION = import.meta.url.endsWith('.ts') ? '.ts' : '.js'
const THREAD_URL = new URL(`./thread${OWN_EXTENSION}`, import.meta.url)

/**
 * Entry of the tokenizer's process. The work is done by a thread of it, so that this one is always free to notice
 * that the node has gone: no template keeps a process running that cannot be ended any more.
 */
process.title = 'edgeshard tokenizer'
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'))
// Ctrl-C reaches every process of a terminal; the node decides when this one ends.
process.on('SIGINT', () => undefined)

const reply = (message: WorkerReply, sent?: () => void) => process.send?.(message, () => sent?.())

process.once('message', (init: WorkerInit) => {
  const thread = new Worker(THREAD_URL, {
    workerData: init,
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB, maxYoungGenerationSizeMb: YOUNG_HEAP_MB }
  })
  thread.on('message', (message: WorkerReply) => reply(message))
  thread.on('error', ({ message }) => {
    reply({ kind: 'error', name: 'TokenizerError', message }, () => process.disconnect())
  })
  process.on('message', (call: WorkerCall) => thread.postMessage(call))
})
