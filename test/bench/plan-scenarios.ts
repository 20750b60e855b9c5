/** Writes the paper's testbed into test/scenarios: `node test/bench/plan-scenarios.ts`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { testbedFiles, toJson } from '../scenarios/testbed.ts'

const folder = join(import.meta.dirname, '..', 'scenarios')
for (const [name, scenario] of testbedFiles()) writeFileSync(join(folder, name), toJson(scenario))
