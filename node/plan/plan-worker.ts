import { parentPort } from 'node:worker_threads'
import { ScenarioError } from './errors.ts'
import { type PlanReply, type PlanRequest, solveHere } from './thread.ts'

/** The thread behind `PlanThread`: solves one problem after the other. */
const port = parentPort!

port.on('message', ({ id, scenario, options }: PlanRequest) => {
  let reply: PlanReply
  try {
    reply = { id, result: solveHere(scenario, options) }
  } catch (error) {
    reply = {
      id,
      error: error as Error,
      ...(error instanceof ScenarioError && { scenarioPath: error.path })
    }
  }
  port.postMessage(reply)
})
