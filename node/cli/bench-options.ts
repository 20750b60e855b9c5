import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Objective, Privacy, Speculate, Strategy } from '../api.ts'
import type { BatchOption, BenchOptions } from '../bench/types.ts'
import { BUNDLED_DIR } from '../bundled.ts'
import { METHODS, type Method } from '../plan/index.ts'
import type { DeviceChoice } from '../processor/choices.ts'
import { type ApiKeyOptions, addApiKeyOptions } from './api-key.ts'
import { InputError } from './errors.ts'
import { deviceOption, integerOption, speculateOption } from './options.ts'

/** Far more than prompts are cut from. */
const MAX_TEXT_BYTES = 64 << 20
/** More sequences at once a request cannot ask for. */
const MAX_BATCH = 256
const STRATEGIES: readonly Strategy[] = ['no-bubble', 'bubble']
const DEFAULT_METHODS: readonly Method[] = METHODS.filter(method => method !== 'paper-dp')
const DEFAULT_BATCHES: readonly BatchOption[] = [1, 2, 4, 8, 'max']

/** What is measured, and through which node. */
export interface MeasureOptions extends ApiKeyOptions {
  api?: string
  home?: string
  model?: string
  text?: string
  promptTokens: number
  newTokens: number
  objective?: Objective
  methods: readonly Method[]
  batch: readonly BatchOption[]
  strategies: readonly Strategy[]
  microBatches?: number
  repeats: number
  settle: number
  cloud?: string
  privacy: Privacy
  seed: number
  speculate?: Speculate
  draft?: string
  device?: DeviceChoice
}

/** Adds the options that say what is measured, with their help. */
export function addMeasureOptions(command: Command): Command {
  return addApiKeyOptions(command, 'that node')
    .option('--api <url>', 'node to ask (default: the one running here, else one started for the occasion)')
    .option('--home <dir>', 'home of the running node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--model <name>', 'model to measure, by name or id (default: the bundled one)')
    .option('--text <file>', 'text that prompts are cut from (default: one that ships with edgeshard)')
    .option('--prompt-tokens <n>', 'tokens of each prompt', integerOption(2, 2 ** 20), 32)
    .option('--new-tokens <n>', 'tokens of each answer', integerOption(2, 2 ** 20), 96)
    .addOption(
      new Option('--objective <what>', 'only one of the two (default: both)').choices([
        'latency',
        'throughput'
      ])
    )
    .addOption(
      new Option('--methods <list>', `which methods: ${METHODS.join(',')}`)
        .argParser(listOf(METHODS))
        .default(DEFAULT_METHODS, 'all but paper-dp')
    )
    .addOption(
      new Option('--batch <list>', 'sequences at once, for throughput; max: as many as the devices hold')
        .argParser(batches)
        .default(DEFAULT_BATCHES, DEFAULT_BATCHES.join(','))
    )
    .addOption(
      new Option('--strategies <list>', 'how micro-batches follow each other: no-bubble,bubble')
        .argParser(listOf(STRATEGIES))
        .default(STRATEGIES, 'both')
    )
    .option(
      '--micro-batches <n>',
      'micro-batches that the sequences are cut into (default: as planned)',
      integerOption(1, MAX_BATCH)
    )
    .option('--repeats <n>', 'measured rounds a row, after one to warm up', integerOption(1, 1000), 3)
    .option(
      '--settle <n>',
      'rounds at most in which edgeshard may learn and try other placements before it is measured',
      integerOption(0, 100),
      0
    )
    .option('--cloud <name>', 'device of the cloud-edge methods, by name or peer id (default: the fastest)')
    .addOption(
      new Option('--privacy <level>', 'what stays here: the first layers, or also the last')
        .choices(['prompt', 'sealed'])
        .default('prompt')
    )
    .addOption(deviceOption(' of a node started for the occasion'))
    .addOption(speculateOption('as the node was started'))
    .option('--draft <name>', 'model that drafts (default: as the node was started)')
    .option(
      '--seed <s>',
      'where in the text the prompts begin, and the seed of requests',
      integerOption(0, 2 ** 31),
      0
    )
}

/** @throws {InputError} when the text cannot be read */
export function optionsOf(options: MeasureOptions): BenchOptions {
  const { model, promptTokens, newTokens, objective, methods, batch, strategies, repeats } = options
  const { cloud, privacy, seed, text, microBatches, speculate, draft, settle } = options
  return {
    ...{ model, promptTokens, newTokens, methods, strategies, repeats, cloud, privacy, seed, microBatches },
    speculate,
    draft,
    settle,
    text: readText(text ?? join(BUNDLED_DIR, 'README.md')),
    objectives: objective === undefined ? ['latency', 'throughput'] : [objective],
    batches: batch
  }
}

function readText(path: string): string {
  try {
    if (statSync(path).size > MAX_TEXT_BYTES)
      throw new InputError(`--text ${path}: larger than ${MAX_TEXT_BYTES} bytes`)
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof InputError) throw error
    throw new InputError(`--text: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function listOf<T extends string>(known: readonly T[]): (text: string) => T[] {
  return text =>
    text.split(',').map(part => {
      const found = known.find(name => name === part.trim())
      if (found === undefined)
        throw new InvalidArgumentError(`Give some of ${known.join(', ')}, separated by commas.`)
      return found
    })
}

function batches(text: string): BatchOption[] {
  return text.split(',').map(part => {
    const asked = part.trim()
    const size = /^\d{1,3}$/.test(asked) ? Number(asked) : 0
    if (asked === 'max') return asked
    if (size >= 1 && size <= MAX_BATCH) return size
    throw new InvalidArgumentError(`Give numbers from 1 to ${MAX_BATCH} or max, separated by commas.`)
  })
}
