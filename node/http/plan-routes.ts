import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import { METHODS } from '../plan/problem.ts'
import { MAX_DEVICES, type ScenarioInput } from '../plan/scenario.ts'
import { isShallow, MAX_LEVELS } from '../shallow.ts'
import { MAX_SCENARIO_BYTES } from './constants.ts'
import { parse } from './fields.ts'
import { parseScenarioNeeds } from './mesh-schema.ts'
import { Planner } from './planner.ts'
import { type Components, type HttpContext, jsonBody } from './request.ts'

/** A scenario, which the planner's thread checks, and how to place it; only what is looked at here is checked here. */
const body = z
  .looseObject({
    devices: z.array(z.unknown()).min(1).max(MAX_DEVICES),
    method: z.enum(METHODS).optional()
  })
  .refine(isShallow, `more than ${MAX_LEVELS} levels deep`)

/** /api/plan: the plan of this mesh with its reasons, and that of any scenario; both as `plan --json` prints them. */
export function planRoutes({ node, closing }: Components): Hono<{ Bindings: HttpBindings }> {
  const planner = new Planner()
  closing.beginEndless(() => planner.stop())
  const solve = async (context: HttpContext, scenario: ScenarioInput, method?: (typeof METHODS)[number]) => {
    closing.admitEndless()
    const options = { explain: true, ...(method !== undefined && { method }) }
    return context.json(await planner.solve(scenario, options, context.req.raw.signal))
  }
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/', async context => {
      const needs = parseScenarioNeeds(context.req.query())
      return await solve(context, await node.scenario(needs, { signal: context.req.raw.signal }))
    })
    .post('/', async context => {
      const { method, ...scenario } = parse(body, await jsonBody(context, MAX_SCENARIO_BYTES))
      return await solve(context, scenario as unknown as ScenarioInput, method)
    })
}
