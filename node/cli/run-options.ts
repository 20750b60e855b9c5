import { type Command, InvalidArgumentError, Option } from 'commander'
import { MAX_PENALTY_WINDOW, MAX_REPETITION, MIN_REPETITION } from '../../models/runtime/sampling-limits.ts'
import type { GenerateRequest, LoadOptions, Objective, Privacy, Speculate } from '../api.ts'
import type { DeviceChoice } from '../processor/choices.ts'
import { type ApiKeyOptions, addApiKeyOptions } from './api-key.ts'
import {
  addLogOptions,
  deviceOption,
  durationOption,
  integerOption,
  type LogOptions,
  speculateOption
} from './options.ts'

/** Options that `run` and `chat` share. */
export interface RequestOptions extends LogOptions, ApiKeyOptions {
  api?: string
  model?: string
  maxTokens?: number
  temperature?: number
  topP?: number
  topK?: number
  minP?: number
  repeatPenalty?: number
  repeatLastN?: number
  frequencyPenalty?: number
  presencePenalty?: number
  seed?: number
  objective?: Objective
  privacy?: Privacy
  speculate?: Speculate
  draft?: string
  exact?: boolean
  standby?: boolean
  system?: string
  keepAlive?: number
  verbose?: boolean
  explain?: boolean
  home?: string
  device?: DeviceChoice
}

/** Adds the options of a request, with their help. */
export function addRequestOptions(command: Command): Command {
  command
    .option('--api <url>', 'node to ask (default: the one running here, else one started for the occasion)')
    .option('--model <name>', 'model to ask, by name or id (default: the bundled one)')
    .option('--system <text>', 'instruction that goes before the conversation')
    .option(
      '--max-tokens <n>',
      'most tokens to generate (default: until the model ends, or its context is full)',
      integerOption(1, 2 ** 20)
    )
    .option('--temperature <t>', 'randomness, 0 takes the likeliest token (default: 0.7)', numberOption(0, 2))
    .option(
      '--top-p <p>',
      'draw from the likeliest tokens of this total probability (default: 0.95)',
      numberOption(0, 1)
    )
    .option(
      '--top-k <n>',
      'draw from so many of the likeliest tokens (default: 0, all)',
      integerOption(0, 2 ** 31)
    )
    .option(
      '--min-p <p>',
      'draw from tokens at least so likely, as a share of the likeliest one (default: 0, all)',
      numberOption(0, 1)
    )
    .option(
      '--repeat-penalty <x>',
      'make tokens less likely that the answer has already, above 1 (default: 1)',
      numberOption(MIN_REPETITION, MAX_REPETITION)
    )
    .option(
      '--repeat-last-n <n>',
      `so many last tokens of the answer count for penalties (default: ${MAX_PENALTY_WINDOW}, the most)`,
      integerOption(0, MAX_PENALTY_WINDOW)
    )
    .option(
      '--frequency-penalty <x>',
      'as OpenAI has it, once for each time (default: 0)',
      numberOption(-2, 2)
    )
    .option('--presence-penalty <x>', 'as OpenAI has it, once (default: 0)', numberOption(-2, 2))
    .option(
      '--seed <s>',
      'same seed, same answer (default: random)',
      integerOption(0, Number.MAX_SAFE_INTEGER)
    )
    .addOption(
      new Option(
        '--objective <what>',
        'plan for the fastest answer (the default) or the most answers'
      ).choices(['latency', 'throughput'])
    )
    .addOption(
      new Option(
        '--privacy <level>',
        'what stays here: the first layers (the default), or also the last'
      ).choices(['prompt', 'sealed'])
    )
    .addOption(speculateOption('as the node was started'))
    .option('--draft <name>', 'model that drafts (default: as the node was started)')
    .option(
      '--exact',
      'the same to the bit on devices of one kind, whatever else they compute and wherever the model is cut; slower for a single ' +
        'answer'
    )
    .option('--standby', 'have other devices draw it too, which go on with it at once if one of its own dies')
    .option(
      '--keep-alive <time>',
      'how long the model stays loaded behind it, such as 5m; 0: not at all, -1: until others need its memory (default: as the ' +
        'node was started)',
      durationOption
    )
    .addOption(deviceOption(' of a node started for the occasion'))
    .option('--verbose', 'also say on stderr which devices answered and how fast')
    .option('--explain', 'also say on stderr why these devices, why not the others, and what would help')
    .option('--home <dir>', 'where keys and models live (default: $EDGESHARD_HOME, else the data directory)')
  addApiKeyOptions(command, 'that node')
  return addLogOptions(command, { of: 'a node started for the occasion' })
}

/** The part of a request that these options decide. */
export function requestOf(options: RequestOptions): Omit<GenerateRequest, 'input'> {
  const { model, maxTokens, temperature, topP, seed, objective, privacy } = options
  const { speculate, draft, exact, standby, keepAlive } = options
  const { topK, minP, repeatPenalty, repeatLastN, frequencyPenalty, presencePenalty } = options
  return {
    ...(model === undefined ? {} : { model }),
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
    ...(topK === undefined ? {} : { topK }),
    ...(minP === undefined ? {} : { minP }),
    ...(repeatPenalty === undefined ? {} : { repetitionPenalty: repeatPenalty }),
    ...(repeatLastN === undefined ? {} : { penaltyWindow: repeatLastN }),
    ...(frequencyPenalty === undefined ? {} : { frequencyPenalty }),
    ...(presencePenalty === undefined ? {} : { presencePenalty }),
    ...(seed === undefined ? {} : { seed }),
    ...(objective === undefined ? {} : { objective }),
    ...(privacy === undefined ? {} : { privacy }),
    ...(speculate === undefined ? {} : { speculate }),
    ...(draft === undefined ? {} : { draft }),
    ...(exact === undefined ? {} : { exact }),
    ...(standby === undefined ? {} : { standby }),
    ...(keepAlive === undefined ? {} : { keepAliveMs: keepAlive })
  }
}

/** What these options say of how a model is loaded that is going to be asked. */
export function loadOptionsOf(options: RequestOptions): LoadOptions & { model?: string } {
  const { model, maxTokens, objective, privacy, speculate, draft, exact, keepAliveMs } = requestOf(options)
  const given = Object.entries({ model, maxTokens, objective, privacy, speculate, draft, exact, keepAliveMs })
  return Object.fromEntries(given.filter(([, value]) => value !== undefined))
}

/** A decimal number in [min, max]. */
function numberOption(min: number, max: number): (text: string) => number {
  return text => {
    const value = /^-?\d*\.?\d+(e-?\d+)?$/i.test(text) ? Number(text) : Number.NaN
    if (!(value >= min && value <= max))
      throw new InvalidArgumentError(`Give a number from ${min} to ${max}.`)
    return value
  }
}
