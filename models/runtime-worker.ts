import { parentPort, workerData } from 'node:worker_threads'
import { profileLayers } from './profile.ts'
import { RuntimeInputError, SessionClosedError, toPlain } from './runtime-errors.ts'
import type { Answers, Call, Reply, Request, WorkerSetup } from './runtime-messages.ts'
import { Sequence } from './sequence.ts'
import { ShardExecutor } from './shard-executor.ts'

/**
 * The runtime's thread: answers calls one at a time, in the order in which they came, for ONNX Runtime holds the thread
 * during a run. Only closing takes effect at once: steps of a closed session that still wait are not computed.
 */
const { threads } = workerData as WorkerSetup
const port = parentPort!
const shards = new Map<number, ShardExecutor>()
const sessions = new Map<number, { shard: number; sequence: Sequence }>()
let previous: Promise<void> = Promise.resolve()

port.on('message', (request: Request) => {
  if (request.op === 'close') markClosed(request.session)
  if (request.op === 'release') {
    for (const [id, { shard }] of sessions) if (shard === request.shard) markClosed(id)
  }
  previous = previous.then(() => answer(request))
})

async function answer(request: Request): Promise<void> {
  let reply: Reply
  try {
    reply = { id: request.id, ok: true, value: await execute(request) }
  } catch (error) {
    reply = { id: request.id, ok: false, error: toPlain(error) }
  }
  port.postMessage(reply)
  if (request.op === 'stop') port.close()
}

async function execute(call: Call): Promise<Answers[keyof Answers]> {
  switch (call.op) {
    case 'load':
      shards.set(call.shard, await ShardExecutor.load(call.spec, threads))
      return
    case 'open': {
      const shard = shards.get(call.shard)
      if (shard === undefined) throw new RuntimeInputError('the shard was released')
      const sequence = new Sequence(shard, call.options)
      sessions.set(call.session, { shard: call.shard, sequence })
      return sequence.decodeOutputs
    }
    case 'forward':
      return await sequenceOf(call.session).forward(call.step)
    case 'trim':
      sequenceOf(call.session).trim(call.length)
      return
    case 'close':
      sessions.delete(call.session)
      return
    case 'release':
      await release(call.shard)
      return
    case 'profile':
      return await profileLayers(call.spec, threads)
    case 'stop':
      for (const shard of shards.keys()) await release(shard)
      return
  }
}

async function release(id: number): Promise<void> {
  for (const [session, { shard }] of sessions) if (shard === id) sessions.delete(session)
  const executor = shards.get(id)
  shards.delete(id)
  await executor?.release()
}

function sequenceOf(session: number): Sequence {
  const found = sessions.get(session)
  if (found === undefined) throw new SessionClosedError('the session is closed')
  return found.sequence
}

function markClosed(session: number): void {
  const found = sessions.get(session)
  if (found !== undefined) found.sequence.closed = true
}
