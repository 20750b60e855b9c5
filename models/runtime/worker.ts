import { parentPort, workerData } from 'node:worker_threads'
import { Batch } from './batch.ts'
import { CpuProcessor } from './cpu-processor.ts'
import { RuntimeInputError, SessionClosedError, toPlain } from './errors.ts'
import type { Answers, Call, Reply, Request, WorkerSetup } from './messages.ts'
import { profileInDetail, profileLayers } from './profile.ts'
import { Sequence } from './sequence.ts'
import { ShardExecutor } from './shard-executor.ts'

/**
 * A thread of the runtime: answers calls one at a time, in the order in which they came, for ONNX Runtime holds the thread
 * during a run. Only closing takes effect at once: steps of a closed session that still wait are not computed.
 */
const processor = new CpuProcessor(workerData as WorkerSetup)
const port = parentPort!
const shards = new Map<number, ShardExecutor>()
const sessions = new Map<number, { shard: number; batch: number | undefined; sequence: Sequence }>()
const batches = new Map<number, { shard: number; batch: Batch }>()
let previous: Promise<void> = Promise.resolve()

port.on('message', (request: Request) => {
  for (const [id, { shard, batch, sequence }] of sessions) {
    const closes =
      (request.op === 'close' && request.session === id) ||
      (request.op === 'closeBatch' && request.batch === batch) ||
      (request.op === 'release' && request.shard === shard)
    if (closes) sequence.closed = true
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
      shards.set(call.shard, await ShardExecutor.load(call.spec, processor))
      return
    case 'open': {
      const shard = shards.get(call.shard)
      if (shard === undefined) throw new RuntimeInputError('the shard was released')
      const exact = await isExact(shard, call.options)
      const sequence = await Sequence.open(shard, call.options)
      sessions.set(call.session, { shard: call.shard, batch: undefined, sequence })
      return { outputs: sequence.decodeOutputs, exact }
    }
    case 'openBatch': {
      const shard = shards.get(call.shard)
      if (shard === undefined) throw new RuntimeInputError('the shard was released')
      batches.set(call.batch, { shard: call.shard, batch: await Batch.allocate(shard, call.options) })
      return
    }
    case 'openSlot': {
      const { shard, batch } = batchOf(call.batch)
      const exact = await isExact(shards.get(shard)!, call.options)
      const sequence = await batch.open(call.options)
      sessions.set(call.session, { shard, batch: call.batch, sequence })
      return { outputs: sequence.decodeOutputs, exact }
    }
    case 'step':
      return await batchOf(call.batch).batch.step(call.sessions.map(sequenceOf), call.step)
    case 'closeBatch':
      for (const [id, { batch }] of sessions) if (batch === call.batch) sessions.delete(id)
      batches.get(call.batch)?.batch.free()
      batches.delete(call.batch)
      return
    case 'forward':
      return await sequenceOf(call.session).forward(call.step)
    case 'trim':
      sequenceOf(call.session).trim(call.length)
      return
    case 'close':
      sessions.get(call.session)?.sequence.free()
      sessions.delete(call.session)
      return
    case 'release':
      await release(call.shard)
      return
    case 'profile':
      return await profileLayers(call.spec, processor, call.unwanted)
    case 'profileInDetail':
      return await profileInDetail(call.spec, processor, call.unwanted)
    case 'stop':
      for (const shard of shards.keys()) await release(shard)
      return
  }
}

/** Tried before anything is opened: a check that fails leaves no session behind. */
async function isExact(shard: ShardExecutor, { exact = false }: { exact?: boolean }): Promise<boolean> {
  return exact && (await shard.keepsBits())
}

async function release(id: number): Promise<void> {
  for (const [session, { shard, sequence }] of sessions) {
    if (shard !== id) continue
    sequence.free()
    sessions.delete(session)
  }
  for (const [key, { shard, batch }] of batches) {
    if (shard !== id) continue
    batch.free()
    batches.delete(key)
  }
  const executor = shards.get(id)
  shards.delete(id)
  await executor?.release()
}

function sequenceOf(session: number): Sequence {
  const found = sessions.get(session)
  if (found === undefined) throw new SessionClosedError('the session is closed')
  return found.sequence
}

function batchOf(batch: number): { shard: number; batch: Batch } {
  const found = batches.get(batch)
  if (found === undefined) throw new SessionClosedError('the batch is closed')
  return found
}
