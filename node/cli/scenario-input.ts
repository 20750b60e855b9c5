import { readFileSync, statSync } from 'node:fs'
import type { Objective, Privacy, Speculate } from '../api.ts'
import { shortNames, withNames } from '../short-names.ts'
import { runningNode } from './api-client.ts'
import type { ApiKeyOptions } from './api-key.ts'
import { InputError } from './errors.ts'
import { homeDir } from './home.ts'

/** Larger than any scenario of 1,024 devices with all their links. */
const MAX_SCENARIO_BYTES = 256 * 2 ** 20

export interface ScenarioSource extends ApiKeyOptions {
  /** A file, or - for stdin; absent: the mesh of the node that runs here. */
  scenario?: string
  home?: string
  api?: string
  model?: string
  objective?: Objective
  privacy?: Privacy
  speculate?: Speculate
  draft?: string
  json?: boolean
}

/**
 * The scenario that a command is about, unchecked, and what to call it in an error.
 *
 * @throws {InputError} when the file cannot be read as JSON; {NoNodeError} when no node runs and no file was given
 */
export async function scenarioInput(source: ScenarioSource): Promise<{ name: string; scenario: unknown }> {
  if (source.scenario === undefined) return { name: 'the mesh', scenario: await askForScenario(source) }
  if (source.speculate !== undefined || source.draft !== undefined) {
    throw new InputError(
      '--speculate and --draft are about the running node, which has counted guesses; with --scenario say --guesses-right'
    )
  }
  const name = source.scenario === '-' ? 'stdin' : source.scenario
  try {
    return { name, scenario: JSON.parse(readText(source.scenario)) }
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(`${name}: not JSON (${error instanceof Error ? error.message : String(error)})`)
  }
}

async function askForScenario(source: ScenarioSource): Promise<unknown> {
  const { home, api, apiKey, apiKeyFile, json = false } = source
  const { model, objective, privacy, speculate, draft } = source
  const node = await runningNode({ home: homeDir(home), api, apiKey, apiKeyFile })
  const scenario = await node.scenario({
    ...(model !== undefined && { model }),
    ...(objective !== undefined && { objective }),
    ...(privacy !== undefined && { privacy }),
    ...(speculate !== undefined && { speculate }),
    ...(draft !== undefined && { draft })
  })
  return json ? scenario : underNames(scenario)
}

/** The devices under what people call them instead of their peer ids. */
function underNames(scenario: { devices: { id: string; name?: string | undefined }[] }): unknown {
  const devices = scenario.devices.map(({ id, name = id }) => ({ peerId: id, name }))
  // Peer ids occur in a scenario as whole strings only, and as nothing else but names that somebody has chosen.
  const quoted = [...shortNames(devices)].map(
    texts => texts.map(text => JSON.stringify(text)) as [string, string]
  )
  return JSON.parse(withNames(JSON.stringify(scenario), new Map(quoted)))
}

function readText(path: string): string {
  try {
    if (path !== '-' && statSync(path).size > MAX_SCENARIO_BYTES) {
      throw new InputError(`${path}: larger than ${MAX_SCENARIO_BYTES} bytes`)
    }
    return readFileSync(path === '-' ? 0 : path, 'utf8')
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(`${path}: ${error instanceof Error ? error.message : String(error)}`)
  }
}
