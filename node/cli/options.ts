import { type Command, InvalidArgumentError, Option } from 'commander'
import { LOG_LEVELS, type LogLevel } from '../../models/log.ts'
import { parseDuration } from '../duration.ts'
import type { LogFormat } from '../log.ts'
import { DEVICE_CHOICES } from '../processor/choices.ts'

const LOG_FORMATS: readonly LogFormat[] = ['text', 'json']

/** Processors that people ask for by the name of what uses them elsewhere. */
const NOT_OFFERED: Readonly<Record<string, string>> = {
  cuda: 'It is not offered, for a KV cache could not stay on the card; gpu uses an NVIDIA card by Vulkan.',
  coreml: 'It is not offered, for a KV cache could not stay there; gpu uses Apple Silicon by Metal.'
}

const UNITS: Record<string, number> = { '': 1, B: 1, KIB: 2 ** 10, MIB: 2 ** 20, GIB: 2 ** 30, TIB: 2 ** 40 }

/** `4GiB`, `512 MiB`, `1.5gib` or a plain number of bytes. */
export function bytesOption(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  const unit = match === null ? undefined : UNITS[match[2]!.toUpperCase()]
  const bytes = match === null || unit === undefined ? Number.NaN : Math.floor(Number(match[1]) * unit)
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    throw new InvalidArgumentError('Give a size such as 512MiB, 4GiB or a number of bytes.')
  }
  return bytes
}

/** The same, or 0 for none. */
export function bytesOrNoneOption(text: string): number {
  return text.trim() === '0' ? 0 : bytesOption(text)
}

/** Reads a whole number in [min, max]. */
export interface IntegerParser {
  (text: string): number
  readonly min: number
  readonly max: number
}

/** A whole number in [min, max]. */
export function integerOption(min: number, max: number): IntegerParser {
  const parse = (text: string) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`Give a whole number from ${min} to ${max}.`)
    }
    return value
  }
  return Object.assign(parse, { min, max })
}

/** `5m`, `1h30m`, a number of seconds; negative: without end. In ms. */
export function durationOption(text: string): number {
  const ms = parseDuration(text)
  if (ms === undefined) throw new InvalidArgumentError('Give a time such as 5m, 1h30m, 300 (seconds) or -1.')
  return ms
}

/** `HOST:PORT`, `[V6]:PORT` or a port alone (loopback). */
export function addressOption(text: string): { host: string; port: number } {
  const match = /^(?:(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):)?(\d{1,5})$/i.exec(text)
  const port = Number(match?.[2])
  if (match === null || port > 65535)
    throw new InvalidArgumentError('Give HOST:PORT, such as 127.0.0.1:7447.')
  return { host: (match[1] ?? '127.0.0.1').replace(/^\[|\]$/g, ''), port }
}

const GUESSES =
  'guess tokens ahead, which changes none of them: by what was said before, by a smaller model, by both, or by the layer that the ' +
  'model was imported with (--mtp)'

/**
 * `--speculate`.
 *
 * @param usual what is done when nothing is said
 * @param what the option says, where no answer is asked for
 */
export function speculateOption(usual: string, what = GUESSES): Option {
  return new Option('--speculate <how>', `${what} (default: ${usual})`).choices([
    'off',
    'ngram',
    'draft',
    'auto',
    'mtp'
  ])
}

/** `--device`. @param of whose layers, where that needs saying */
export function deviceOption(of = ''): Option {
  const what = `what computes layers${of}: cpu; gpu, unmeasured; auto: the GPU where trying it has found it faster for prompts and tokens`
  const option = new Option('--device <what>', `${what} (default: cpu)`).choices(DEVICE_CHOICES)
  const { parseArg } = option
  return option.argParser((text, before) => {
    const advice = NOT_OFFERED[text]
    if (advice !== undefined) throw new InvalidArgumentError(advice)
    return parseArg?.(text, before)
  })
}

/** Collects an option that may be given several times. */
export function collect(text: string, before: string[]): string[] {
  return [...before, text]
}

/** What options say of the log of a node that runs in this process. */
export interface LogOptions {
  logLevel?: LogLevel
  logFormat?: LogFormat
}

/** @param standard what is logged when nothing is said; absent: what $DEBUG names */
export function addLogOptions(
  command: Command,
  { of, standard }: { of: string; standard?: LogLevel }
): Command {
  const level = new Option('--log-level <level>', `log of ${of} on stderr; $DEBUG chooses parts of it, too`)
  return command
    .addOption(level.choices(LOG_LEVELS).env('EDGESHARD_LOG_LEVEL').default(standard))
    .addOption(
      new Option('--log-format <format>', 'text lines, or one JSON object a line')
        .choices(LOG_FORMATS)
        .env('EDGESHARD_LOG_FORMAT')
        .default('text')
    )
}
