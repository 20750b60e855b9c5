// Golden models from end to end: `npm run golden -- [--nodes 1,3] [MODEL ...]`. Each is imported by the command line, from
// its folder and from its GGUF file, and prompted by it, on one device and on three of which none holds half of it. Prints a
// line for each and exits with 1 where tokens are not those of its reference.json.

import { readFile } from 'node:fs/promises'
import { ModelStore } from '../../models/store/store.ts'
import type { GenerateResult } from '../../node/api.ts'
import { storeDir } from '../../node/cli/home.ts'
import { CONTEXT_TOKENS, Nodes, SECRET } from '../fixtures/nodes.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'
import { command, Devices } from './devices.ts'
import { FORMS, type Form, type GoldenOptions, goldenOptions, USAGE } from './options.ts'
import { memoryForThree, sharedMemory } from './thirds.ts'

interface Golden {
  model: string
  form: Form
  /** What it is called in the store. */
  name: string
}

/** What a case came to: nothing, where its tokens are those of the reference. */
type Problem = string | undefined

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`golden: ${(error as Error).message}\n${USAGE}`)
  process.exitCode = 2
}

async function main(): Promise<number> {
  if (!hasSharedData)
    throw new Error('the golden models are not there: they lie in shared/data, beside the project')
  const { models, nodes } = goldenOptions(process.argv.slice(2))
  await using homes = new Nodes()
  const [home, ...others] = await Promise.all([1, 2, 3].map(() => homes.home(SECRET)))
  line('model', 'form', 'nodes', 'tokens')
  const { imported, refused } = await importAll(home!, models)
  const problems: string[] = []
  const note = ({ model, form }: Golden, count: number, problem: Problem) => {
    line(model, form, String(count), problem ?? 'equal')
    if (problem !== undefined) problems.push(`${model} ${form} ${count}: ${problem}`)
  }
  if (nodes.includes(1)) {
    await using device = await Devices.up([home!])
    for (const golden of imported) note(golden, 1, await run(device.api, golden, 1))
  }
  if (nodes.includes(3)) {
    for (const { memoryBytes, models } of sharedMemory(await withMemory(home!, imported))) {
      await using devices = await Devices.up([home!, ...others], memoryBytes)
      for (const golden of models) note(golden, 3, await run(devices.api, golden, 3))
    }
  }
  const cases = imported.length * nodes.length
  process.stdout.write(
    `${cases - problems.length} of ${cases} equal${refused > 0 ? `, ${refused} checkpoints refused` : ''}\n`
  )
  return problems.length === 0 ? 0 : 1
}

async function importAll(
  home: string,
  models: GoldenOptions['models']
): Promise<{ imported: Golden[]; refused: number }> {
  const imported: Golden[] = []
  let refused = 0
  for (const model of models) {
    for (const form of Object.keys(FORMS) as Form[]) {
      const name = `${model}-${form}`
      try {
        await command(['import', sharedData(`arch/${model}/${FORMS[form]}`), '--name', name, '--home', home])
        imported.push({ model, form, name })
      } catch (error) {
        line(model, form, '-', (error as Error).message)
        refused++
      }
    }
  }
  return { imported, refused }
}

async function withMemory(home: string, all: readonly Golden[]) {
  const stored = await ModelStore.at(storeDir(home)).list()
  return all.map(golden => {
    const { manifest } = stored.find(({ name }) => name === golden.name)!
    return { ...golden, ...memoryForThree(manifest, CONTEXT_TOKENS) }
  })
}

async function run(api: string, { model, name }: Golden, devices: number): Promise<Problem> {
  const golden: { prompt_tokens: number[]; tokens: number[] } = JSON.parse(
    await readFile(sharedData(`arch/${model}/reference.json`), 'utf8')
  )
  const { prompt_tokens: prompt, tokens } = golden
  try {
    const length = ['--max-tokens', String(tokens.length), '--temperature', '0', '--keep-alive', '0']
    const asked = ['--ids', prompt.join(','), '--model', name, '--api', api, '--json', ...length]
    const { tokens: drawn, plan }: GenerateResult = JSON.parse(await command(['run', ...asked]))
    const at = tokens.findIndex((token, i) => token !== drawn[i])
    if (at >= 0) return `token ${at + 1} is ${drawn[at] ?? 'missing'}, not ${tokens[at]}`
    const used = new Set(plan.stages.map(({ peerId }) => peerId)).size
    return used === devices ? undefined : `equal, but on ${used} devices`
  } catch (error) {
    return (error as Error).message
  }
}

function line(...[model, form, nodes, tokens]: [string, string, string, string]): void {
  process.stdout.write(`${model.padEnd(18)} ${form.padEnd(8)} ${nodes.padEnd(6)} ${tokens}\n`)
}
