import { Command } from 'commander'
import { type Plan, type Problem, plan, ScenarioError } from '../../plan/index.ts'
import { renderSimulation } from '../../plan/render.ts'
import { type SimulationReport, simulatePlan } from '../../plan/simulation-report.ts'
import { InfeasibleError, InputError } from '../errors.ts'
import { jsonLine } from '../format.ts'
import { addScenarioOptions, readProblem, type ScenarioOptions } from './plan.ts'

export function simulateCommand(): Command {
  const command = new Command('simulate').description(
    'Plan a scenario and play the plan event by event: what was predicted beside what happens.'
  )
  return addScenarioOptions(command)
    .addHelpText(
      'after',
      `
Both ways of running the pipeline are played: without bubbles (a micro-batch goes on as soon as its own
tokens are back) and with bubbles (each round waits for the slowest micro-batch).

Exit status: 0 played, 2 bad input, 3 nothing fits (the answer with its reason on stdout).`
    )
    .action(run)
}

async function run(options: ScenarioOptions): Promise<void> {
  const { problem } = await readProblem(options)
  const result = plan(problem, {
    method: options.method,
    now: () => performance.now(),
    budgetMs: options.budget,
    explain: false
  })
  if (!result.feasible) {
    if (options.json === true) process.stdout.write(jsonLine(result))
    throw new InfeasibleError(result.reason)
  }
  const report = play(problem, result)
  process.stdout.write(
    options.json === true ? jsonLine(report) : renderSimulation(report, process.stdout.columns)
  )
}

function play(problem: Problem, result: Plan): SimulationReport {
  try {
    return simulatePlan(problem, result)
  } catch (error) {
    if (error instanceof ScenarioError) throw new InputError(error.message)
    throw error
  }
}
