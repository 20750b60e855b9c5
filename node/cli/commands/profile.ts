import { availableParallelism, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { timedKind, timedKinds } from '../../../models/blocks.ts'
import { readJsonObject } from '../../../models/formats/files.ts'
import { parseConfig } from '../../../models/import/config.ts'
import { BLOCK_SIZES, type QuantizeMode } from '../../../models/import/rounding.ts'
import { unwrapConfig } from '../../../models/import/wrappers.ts'
import { startRuntime } from '../../../models/runtime/client.ts'
import { GpuUnavailableError } from '../../../models/runtime/errors.ts'
import { ModelStore } from '../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../bundled.ts'
import { DEFAULT_MEMORY_SHARE, DEFAULT_MODEL } from '../../constants.ts'
import { GpuFile, type GpuProbe } from '../../processor/gpu-file.ts'
import { gpuPresence } from '../../processor/gpu-presence.ts'
import { tryGpu } from '../../processor/trial.ts'
import { type DeviceProfile, deviceProfile } from '../../profile/device-profile.ts'
import type { ProfileSubject } from '../../profile/profile-key.ts'
import { formatBytes } from '../../units.ts'
import { InputError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir, storeDir } from '../home.ts'
import { blockOption } from '../imported.ts'
import { interruptSignal } from '../interrupt.ts'
import { integerOption } from '../options.ts'

const MAX_CONFIG_BYTES = 2 ** 20

interface ProfileOptions {
  model?: string
  shape?: string
  quantize: QuantizeMode
  block?: string
  threads: number
  home?: string
  fresh?: boolean
  providers?: boolean
  json?: boolean
}

/** `edgeshard profile`: how fast this device computes a model's layers. */
export function profileCommand(): Command {
  return new Command('profile')
    .description('Time one layer of each kind on this device, with random weights of the shape.')
    .option('--model <name>', 'a model of the store (default: the one that ships with edgeshard)')
    .option('--shape <file>', 'a config.json; the model itself is not needed')
    .addOption(
      new Option('--quantize <mode>', 'blocks of 8 or 4 bits, or float32')
        .choices(['none', 'q8', 'q4'])
        .default('none')
    )
    .addOption(blockOption())
    .option('--threads <n>', 'threads that compute', integerOption(1, 1024), availableParallelism())
    .option(
      '--home <dir>',
      'where models and profiles live (default: $EDGESHARD_HOME, else the data directory)'
    )
    .option('--fresh', 'measure again what has been measured before')
    .option(
      '--providers',
      'try the GPU beside the CPU instead, and remember for `up --device auto` which is faster; a driver that has crashed is tried again'
    )
    .option('--json', "an entry of a scenario's profiles on stdout")
    .action(run)
}

async function run(options: ProfileOptions): Promise<void> {
  const subject = await subjectOf(options)
  const interrupt = interruptSignal()
  try {
    if (options.providers === true) return await providers(options, subject, interrupt.signal)
    const dir = join(homeDir(options.home), 'profiles')
    const profile = await deviceProfile(subject, dir, options.fresh === true, s =>
      measure(s, interrupt.signal)
    )
    process.stdout.write(options.json === true ? jsonLine(profile) : table(profile, subject))
  } finally {
    interrupt.dispose()
  }
}

/** @throws {GpuUnavailableError} where there is none to be tried */
async function providers(
  { home, model = DEFAULT_MODEL, shape, json }: ProfileOptions,
  subject: ProfileSubject,
  signal: AbortSignal
): Promise<void> {
  const presence = await gpuPresence()
  if (!presence.possible) throw new GpuUnavailableError(`no GPU can be used here: ${presence.reason}`)
  const { driver } = presence
  const file = new GpuFile(homeDir(home))
  const mostBytes = Math.floor(totalmem() * DEFAULT_MEMORY_SHARE)
  const probe = await tryGpu({
    file,
    driver,
    subject: { ...subject, name: shape ?? model },
    mostBytes,
    signal
  })
  process.stdout.write(json === true ? jsonLine({ driver, ...probe }) : providersTable(driver, probe))
}

/** What trying a GPU has found, in lines. */
export function providersTable(driver: string, probe: GpuProbe): string {
  const { model, times, difference, keepsBits, allocatableBytes, verdict } = probe
  const ms = (value: number) => `${value.toFixed(3)} ms`
  const rows = times.map(({ kind, work, cpuMs, gpuMs }) => [kind, work, ms(cpuMs), ms(gpuMs)])
  const line = (cells: string[]) =>
    cells.map((cell, i) => (i < 2 ? cell.padEnd(10) : cell.padStart(14))).join('')
  return [
    `One layer of ${clean(model)}, ${driver}:`,
    '',
    ...[['layer', 'work', 'CPU', 'GPU'], ...rows].map(line),
    '',
    ...(difference === undefined
      ? []
      : [`They differ by ${difference.toExponential(1)} of the largest number.`]),
    ...(keepsBits === undefined ? [] : [`Exact answers: ${keepsBits ? 'yes' : 'no'}.`]),
    ...(allocatableBytes === undefined ? [] : [`Memory that it gives: ${formatBytes(allocatableBytes)}.`]),
    `With --device auto the ${verdict.use.toUpperCase()} is used: ${clean(verdict.reason)}.`,
    ''
  ].join('\n')
}

async function measure({ shape, quantization, threads }: ProfileSubject, signal: AbortSignal) {
  const runtime = await startRuntime({ threads })
  try {
    return await runtime.profileInDetail(shape, quantization, { signal })
  } finally {
    await runtime.stop()
  }
}

async function subjectOf({
  model,
  shape,
  quantize,
  block,
  threads,
  home
}: ProfileOptions): Promise<ProfileSubject> {
  if (shape !== undefined) {
    if (model !== undefined) throw new InputError('--model and --shape exclude each other')
    const json = await readJsonObject(resolve(shape), MAX_CONFIG_BYTES)
    if (json === undefined) throw new InputError(`--shape ${shape}: there is no such file`)
    const config = parseConfig(unwrapConfig(json, shape).json, shape)
    if (quantize === 'none') return { shape: config.shape, threads }
    const blockSize = block === undefined ? BLOCK_SIZES[quantize] : Number(block)
    return { shape: config.shape, quantization: { bits: quantize === 'q8' ? 8 : 4, blockSize }, threads }
  }
  if (quantize !== 'none' || block !== undefined) {
    throw new InputError('--quantize and --block go with --shape: a model has been rounded at its import')
  }
  const dir = model === undefined ? BUNDLED_DIR : storeDir(homeDir(home))
  const { manifest } = await ModelStore.at(dir).resolve(model ?? DEFAULT_MODEL)
  const quantization = manifest.layers[1]?.tensors.find(tensor => tensor.quantization)?.quantization
  return { shape: manifest.shape, quantization, threads }
}

function table(profile: DeviceProfile, { shape, threads, quantization }: ProfileSubject): string {
  const precision =
    quantization === undefined
      ? 'float32'
      : `${quantization.bits} bits in blocks of ${quantization.blockSize}`
  const lines = [`One layer, ${precision}, ${threads} ${threads === 1 ? 'thread' : 'threads'}:`, '']
  const row = (...cells: string[]) =>
    lines.push(cells.map((cell, i) => (i === 0 ? cell.padEnd(11) : cell.padStart(13))).join(''))
  row('', 'weights', 'a token', '8 at once', 'of a prompt')
  for (const { kind } of timedKinds(shape)) {
    const { weightBytes, decodeMs, decodeMsByBatch, prefillMsPerToken } = profile[kind]!
    const ms = (value: number | undefined) => `${(value ?? 0).toFixed(3)} ms`
    row(kind, formatBytes(weightBytes), ms(decodeMs), ms(decodeMsByBatch[8]), ms(prefillMsPerToken))
  }
  const all = Array.from({ length: shape.decoderLayers + 2 }, (_, layer) => profile[timedKind(shape, layer)]!)
  const step = all.reduce((sum, { decodeMs }) => sum + decodeMs, 0)
  lines.push(
    '',
    `All ${shape.decoderLayers + 2} layers on this device: ${(1000 / step).toFixed(1)} tokens a second.`,
    ''
  )
  return lines.join('\n')
}
