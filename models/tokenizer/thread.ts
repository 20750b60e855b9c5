import { parentPort, workerData } from 'node:worker_threads'
import { createEncoder, type Encoder } from './encoder.ts'
import type { WorkerCall, WorkerInit, WorkerReply } from './messages.ts'

const port = parentPort
if (port === null) throw new Error('models/tokenizer/thread is the entry of a worker thread')

const reply = (message: WorkerReply) => port.postMessage(message)

function answer(work: () => WorkerReply): void {
  try {
    reply(work())
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error))
    reply({ kind: 'error', name, message: message.slice(0, 500) })
  }
}

let encoder: Encoder
answer(() => {
  encoder = createEncoder(workerData as WorkerInit)
  const { vocabulary, chatTemplate, endOfTurnIds, closingId } = encoder
  const { user, system } = process.cpuUsage()
  return {
    kind: 'ready',
    vocabulary,
    chatTemplate,
    endOfTurnIds,
    closingId,
    cpuMs: (user + system) / 1000
  }
})

port.on('message', (call: WorkerCall) => {
  answer(() => ({
    kind: 'ids',
    ids:
      call.kind === 'encode'
        ? encoder.encode(call.text)
        : encoder.encodeChat(call.messages, call.args, call.behind)
  }))
})
