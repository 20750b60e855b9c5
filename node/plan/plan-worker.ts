import { parentPort } from 'node:worker_threads'
import { plan } from './index.ts'
import { parseScenario } from './scenario.ts'
import type { PlanReply, PlanRequest } from './thread.ts'

/** The thread behind `PlanThread`: solves one problem after the other. */
const port = parentPort!

port.on('message', ({ id, scenario, options }: PlanRequest) => {
  let reply: PlanReply
  try {
    const now = () => performance.now()
    reply = { id, result: plan(parseScenario(scenario), { ...options, now, explain: false }) }
  } catch (error) {
    reply = { id, error: error as Error }
  }
  port.postMessage(reply)
})
