import { writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Command, Option } from 'commander'
import {
  compare,
  METHODS,
  type Method,
  type Objective,
  type Problem,
  parseScenario,
  plan,
  ScenarioError,
  type ScenarioInput
} from '../../plan/index.ts'
import { renderComparison, renderPlan } from '../../plan/render.ts'
import { renderSvg } from '../../plan/svg.ts'
import { refusalText } from '../../refusal-text.ts'
import { addApiKeyOptions } from '../api-key.ts'
import { InfeasibleError, InputError } from '../errors.ts'
import { jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { integerOption, speculateOption } from '../options.ts'
import { type ScenarioSource, scenarioInput } from '../scenario-input.ts'

export interface ScenarioOptions extends ScenarioSource {
  objective?: Objective
  method: Method
  guessesRight?: number
  cloud?: string
  budget: number
}

interface PlanCommandOptions extends ScenarioOptions {
  compare?: boolean
  svg?: string
  privacyCurve?: boolean
  text?: string
  threads: number
}

export function planCommand(): Command {
  const command = new Command('plan').description(
    'Place the layers of a model on the devices of the mesh, or of a scenario, and say why.'
  )
  return addScenarioOptions(command)
    .option('--compare', 'all methods beside each other')
    .option('--svg <file>', 'draw devices, links, ranges and times into a file')
    .option(
      '--privacy-curve',
      'measure what the next device could tell of a prompt, beside what it costs to keep more layers on the source'
    )
    .option('--text <file>', 'of that, the text to fit to and to try on (default: some that ships)')
    .option('--threads <n>', 'of that, threads that compute', integerOption(1, 1024), availableParallelism())
    .addHelpText(
      'after',
      `
Examples:
  edgeshard plan
  edgeshard plan --scenario home.json
  edgeshard plan --scenario home.json --objective throughput --json
  edgeshard plan --scenario home.json --compare
  edgeshard plan --scenario home.json --guesses-right 70
  edgeshard plan --privacy-curve

Exit status: 0 planned, 2 bad input, 3 nothing fits (the answer with its reason on stdout).`
    )
    .action(run)
}

/** What plan and simulate have in common. */
export function addScenarioOptions(command: Command): Command {
  return addApiKeyOptions(command, 'that node')
    .option(
      '--scenario <file>',
      'devices, links, model, profiles and workload as JSON; - reads stdin (default: the mesh of the running node)'
    )
    .option('--model <name>', 'which model to place on the running mesh')
    .addOption(
      new Option('--privacy <privacy>', 'what stays on the source of the running mesh').choices([
        'prompt',
        'sealed'
      ])
    )
    .addOption(
      speculateOption(
        'as the node was started',
        'what guesses tokens ahead on the running mesh: the plan counts on as many right ones as earlier answers had'
      )
    )
    .option('--draft <name>', 'model that drafts on the running mesh (default: as the node was started)')
    .option('--home <dir>', 'home of the running node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--api <url>', 'node to ask instead of the one that runs here')
    .addOption(
      new Option(
        '--objective <objective>',
        'what to plan for (default: of the scenario, else latency)'
      ).choices(['latency', 'throughput'])
    )
    .addOption(new Option('--method <method>', 'how to place').choices(METHODS).default('edgeshard'))
    .option(
      '--guesses-right <percent>',
      'plan one sequence with guesses ahead of which so many in a hundred are right (default: of the scenario)',
      integerOption(0, 100)
    )
    .option('--cloud <id>', 'the device of the cloud-edge methods (default: of the scenario)')
    .option(
      '--budget <ms>',
      'time after which the best plan so far is taken',
      integerOption(1, 600_000),
      2000
    )
    .option('--json', 'one JSON document on stdout')
}

async function run(options: PlanCommandOptions): Promise<void> {
  if (options.privacyCurve === true) return await curve(options)
  if (options.text !== undefined) throw new InputError('--text goes with --privacy-curve')
  const { problem } = await readProblem(options)
  const planning = { method: options.method, now: () => performance.now(), budgetMs: options.budget }
  const results = options.compare === true ? compare(problem, planning) : [plan(problem, planning)]
  const chosen = results.find(({ method }) => method === options.method)!
  if (options.json === true) {
    process.stdout.write(jsonLine(options.compare === true ? { methods: results } : chosen))
  } else if (options.compare === true) {
    process.stdout.write(renderComparison(problem, results, process.stdout.columns))
  } else if (chosen.feasible) {
    process.stdout.write(renderPlan(problem, chosen, process.stdout.columns))
  }
  if (options.svg !== undefined && chosen.feasible) writeSvg(options.svg, renderSvg(problem, chosen))
  if (!results.some(({ feasible }) => feasible)) {
    const why = chosen.feasible ? '' : refusalText(chosen)
    throw new InfeasibleError(chosen.method === 'edgeshard' ? `the model fits nowhere: ${why}` : why)
  }
}

async function curve(options: PlanCommandOptions): Promise<void> {
  const { compare, svg, method, model, text, threads, budget, json = false } = options
  if (compare === true || svg !== undefined || method !== 'edgeshard') {
    throw new InputError(
      '--privacy-curve goes with no --compare, --svg or other --method: it has a plan for each row'
    )
  }
  const { problem, model: planned } = await readProblem(options)
  // Only here: planning needs no runtime.
  const { printPrivacyCurve } = await import('../privacy-curve.ts')
  const home = homeDir(options.home)
  await printPrivacyCurve(planned, problem, { model, text, threads, home, budgetMs: budget, json })
}

/** The scenario, checked, with what the command line says instead, and the model that it is about. */
export async function readProblem(
  options: ScenarioOptions
): Promise<{ problem: Problem; model: ScenarioInput['model'] }> {
  const { name, scenario } = await scenarioInput(options)
  let problem: Problem
  try {
    problem = withGuesses(parseScenario(scenario), options)
  } catch (error) {
    if (error instanceof ScenarioError) throw new InputError(`${name}: ${error.message}`)
    throw error
  }
  const { objective = problem.objective, cloud } = options
  const { model } = scenario as ScenarioInput
  if (cloud === undefined) return { problem: { ...problem, objective }, model }
  const index = problem.devices.findIndex(({ id }) => id === cloud)
  if (index < 0) throw new InputError(`--cloud: ${JSON.stringify(cloud)} is not a device of the scenario`)
  return { problem: { ...problem, objective, cloud: index }, model }
}

/** A window that the scenario does not say is as wide as a source makes it by itself. */
function withGuesses(problem: Problem, { guessesRight }: Pick<ScenarioOptions, 'guessesRight'>): Problem {
  if (guessesRight === undefined) return problem
  const { window, draftMs = 0 } = problem.workload.speculation ?? {}
  const speculation = { acceptance: guessesRight / 100, window, draftMs }
  return { ...problem, workload: { ...problem.workload, speculation } }
}

function writeSvg(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (error) {
    throw new InputError(`--svg: ${error instanceof Error ? error.message : String(error)}`)
  }
}
