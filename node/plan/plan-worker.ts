import { parentPort } from 'node:worker_threads'
import { type PlanReply, type PlanRequest, solveHere } from './thread.ts'

/** The thread behind `PlanThread`: solves one problem after the other. */
const port = parentPort!

port.on('message', ({ id, scenario, options }: PlanRequest) => {
  let reply: PlanReply
  try {
    reply = { id, result: solveHere(scenario, options) }
  } catch (error) {
    reply = { id, error: error as Error }
  }
  port.postMessage(reply)
})
