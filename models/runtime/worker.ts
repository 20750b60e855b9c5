import { parentPort, workerData } from 'node:worker_threads'
import { Calls } from './calls.ts'
import { CpuProcessor } from './cpu-processor.ts'
import type { Request, WorkerSetup } from './messages.ts'

/** A thread of the runtime. */
const port = parentPort!
const calls = new Calls(new CpuProcessor(workerData as WorkerSetup), (reply, { op }) => {
  port.postMessage(reply)
  if (op === 'stop') port.close()
})
port.on('message', (request: Request) => calls.take(request))
