/**
 * Scenario files: the published schema, and how a checked scenario becomes a `Problem`.
 *
 * @example
 * ```ts
 * const problem = parseScenario(JSON.parse(text))
 * const result = plan(problem)
 * ```
 */
import * as z from 'zod'
import { MAX_LAYERS } from '../../models/layers.ts'
import { timesForContext } from './context.ts'
import { ScenarioError } from './errors.ts'
import { buildLinks, linksOfPlaces } from './links.ts'
import type { Device, KindTimes, Layer, Point, Problem } from './problem.ts'

export const MAX_DEVICES = 1024
/** Keeps every sum of bytes or milliseconds finite. */
const MAX_BYTES = Number.MAX_SAFE_INTEGER
const MAX_MS = 1e9
const MAX_TOKENS = 2 ** 24
const MAX_BATCH = 4096
const MIN_MBPS = 1e-6
const MAX_MBPS = 1e9
const MAX_POINTS = 256
const MAX_WINDOW = 256
const MAX_ID_LENGTH = 200
const MAX_PROCESSORS = 8
/** Between processors of a device that does not say: a copy of memory at 8 GB a second. */
const PROCESSOR_LINK_MBPS = 64_000

/** Names are printed: nothing that a terminal obeys or that turns the writing round. */
const id = z
  .string()
  .min(1)
  .max(MAX_ID_LENGTH)
  .regex(/^[^\p{Cc}\p{Bidi_Control}\u2028\u2029]*$/u, 'expected no control characters')
const bytes = z.number().min(0).max(MAX_BYTES)
const ms = z.number().min(0).max(MAX_MS)
const tokens = z.int().min(1).max(MAX_TOKENS)
const batch = z.int().min(1).max(MAX_BATCH)
const link = { mbps: z.number().min(MIN_MBPS).max(MAX_MBPS), latencyMs: ms.default(0) }
/** The two are not connected: neither hands anything on to the other. */
const noLink = { connected: z.literal(false) }

/** Measured points keyed by an integer of at least 1: batch, tokens, or tokens before. */
const points = z
  .record(z.string().regex(/^[1-9][0-9]{0,7}$/, 'expected an integer of at least 1 as key'), ms)
  .refine(value => Object.keys(value).length > 0, 'expected at least one point')
  .refine(value => Object.keys(value).length <= MAX_POINTS, `expected at most ${MAX_POINTS} points`)

const kindTimes = z.strictObject({
  decodeMs: ms.default(0),
  decodeMsPerExtraSequence: ms.default(0),
  prefillMsPerToken: ms.default(0),
  decodeMsByBatch: points.optional(),
  prefillMsByTokens: points.optional(),
  decodeMsByContext: points.optional(),
  prefillMsPerTokenByContext: points.optional(),
  // What `profile` adds for people: sizes come with the model.
  weightBytes: bytes.optional(),
  activationBytes: bytes.optional(),
  kvBytesPerToken: bytes.optional(),
  stateBytes: bytes.optional()
})

/** The schema of a scenario file; `parseScenario` adds what names have to match. */
export const scenarioSchema = z.strictObject({
  note: z.string().optional(),
  devices: z
    .array(
      z.union([
        z.strictObject({
          id,
          name: id.optional(),
          memoryBytes: bytes,
          profile: id,
          turnMs: ms.default(0),
          frameMs: z.number().min(-MAX_MS).max(MAX_MS).default(0)
        }),
        z.strictObject({
          id,
          name: id.optional(),
          processors: z
            .array(z.strictObject({ id, memoryBytes: bytes, profile: id }))
            .min(1)
            .max(MAX_PROCESSORS),
          processorLinkMbps: link.mbps.default(PROCESSOR_LINK_MBPS),
          turnMs: ms.default(0),
          frameMs: z.number().min(-MAX_MS).max(MAX_MS).default(0),
          // What it is as one; not read beside its processors.
          memoryBytes: bytes.optional(),
          profile: id.optional()
        })
      ])
    )
    .min(1)
    .max(MAX_DEVICES),
  source: id,
  cloud: id.optional(),
  links: z.strictObject({
    default: z.strictObject(link).optional(),
    hopOverheadMs: ms.default(0),
    pairs: z
      .array(
        z.union([
          z.strictObject({ between: z.tuple([id, id]), ...link }),
          z.strictObject({ from: id, to: id, ...link }),
          z.strictObject({ between: z.tuple([id, id]), ...noLink }),
          z.strictObject({ from: id, to: id, ...noLink })
        ])
      )
      .max(2 * MAX_DEVICES * MAX_DEVICES)
      .default([])
  }),
  model: z.strictObject({
    name: id,
    layers: z
      .array(
        z.strictObject({
          kind: id,
          count: z.int().min(1).max(MAX_LAYERS).default(1),
          weightBytes: bytes,
          activationBytes: bytes,
          kvBytesPerToken: bytes.default(0),
          stateBytes: bytes.default(0)
        })
      )
      .min(1)
      .max(MAX_LAYERS)
  }),
  profiles: z.record(id, z.record(id, kindTimes)),
  workload: z.strictObject({
    promptTokens: tokens,
    newTokens: tokens,
    cachedTokens: z.int().min(0).max(MAX_TOKENS).default(0),
    batch: z.union([batch, z.strictObject({ max: batch })]),
    contextTokens: z.int().min(0).max(MAX_TOKENS),
    speculation: z
      .strictObject({
        acceptance: z.number().min(0).max(1),
        window: z.int().min(1).max(MAX_WINDOW).optional(),
        draftMs: ms.default(0)
      })
      .optional()
  }),
  privacy: z.enum(['embedding', 'prompt', 'sealed']).default('prompt'),
  metric: z.enum(['tpot', 'request']).default('tpot'),
  objective: z.enum(['latency', 'throughput']).default('latency')
})

/** A scenario as a program writes it: defaults may be left out. */
export type ScenarioInput = z.input<typeof scenarioSchema>
export type Scenario = z.output<typeof scenarioSchema>

/**
 * Checks a scenario of any origin and expands it.
 *
 * @throws ScenarioError with the JSON path of the first thing that is wrong, in one line.
 */
export function parseScenario(input: unknown): Problem {
  const result = scenarioSchema.safeParse(input)
  if (!result.success) throw fromIssue(result.error.issues[0])
  return toProblem(result.data)
}

function toProblem(scenario: Scenario): Problem {
  const index = new Map<string, number>()
  scenario.devices.forEach((device, at) => {
    if (index.has(device.id)) throw new ScenarioError(`devices[${at}].id`, `${quote(device.id)} occurs twice`)
    index.set(device.id, at)
  })
  const indexOf = (name: string, path: string): number => {
    const at = index.get(name)
    if (at === undefined) throw new ScenarioError(path, `${quote(name)} is not listed in devices`)
    return at
  }
  const devices = expandDevices(scenario)
  // A device's links are those of each of its places.
  const placeAt = (at: number): number => devices.findIndex(({ id }) => id === scenario.devices[at]!.id)
  // What the cache holds already has gone into the times.
  const { batch: sequences, cachedTokens: _, speculation, ...workload } = scenario.workload
  return {
    devices,
    source: placeAt(indexOf(scenario.source, 'source')),
    cloud: scenario.cloud === undefined ? undefined : placeAt(indexOf(scenario.cloud, 'cloud')),
    links: linksOfPlaces(
      buildLinks(scenario.links, scenario.devices, indexOf),
      scenario.devices.map(device => ('processors' in device ? device.processors.length : 1)),
      scenario.devices.map(device => ('processors' in device ? device.processorLinkMbps : 0))
    ),
    layers: expandLayers(scenario),
    workload: {
      ...workload,
      speculation: speculation && { ...speculation, window: speculation.window },
      batch:
        typeof sequences === 'number' ? { min: sequences, max: sequences } : { min: 1, max: sequences.max }
    },
    privacy: scenario.privacy,
    metric: scenario.metric,
    objective: scenario.objective
  }
}

/** A place for every device, or for each of the processors that it lists. */
function expandDevices(scenario: Scenario): Device[] {
  const profiles = expandProfiles(scenario)
  const timesOf = (profile: string, path: string): Device['times'] => {
    const times = profiles.get(profile)
    if (times === undefined) throw new ScenarioError(path, `${quote(profile)} is not listed in profiles`)
    return times
  }
  const places = scenario.devices.flatMap((device, at): Device[] => {
    const path = `devices[${at}]`
    const { id, turnMs, frameMs } = device
    if (turnMs + frameMs < 0) {
      throw new ScenarioError(`${path}.frameMs`, `expected no less than -${turnMs}, which is all of turnMs`)
    }
    if (!('processors' in device)) {
      const { memoryBytes, profile } = device
      return [{ id, memoryBytes, times: timesOf(profile, `${path}.profile`), turnMs, frameMs }]
    }
    const names = device.processors.map(processor => processor.id)
    return device.processors.map(({ id: processor, memoryBytes, profile }, n) => {
      const own = `${path}.processors[${n}]`
      if (names.indexOf(processor) !== n) {
        throw new ScenarioError(`${own}.id`, `${quote(processor)} occurs twice`)
      }
      return { id, processor, memoryBytes, times: timesOf(profile, `${own}.profile`), turnMs, frameMs }
    })
  })
  if (places.length <= MAX_DEVICES) return places
  throw new ScenarioError('devices', `${places.length} processors in all, at most ${MAX_DEVICES}`)
}

function expandLayers(scenario: Scenario): Layer[] {
  const total = scenario.model.layers.reduce((sum, layer) => sum + layer.count, 0)
  if (total > MAX_LAYERS) {
    throw new ScenarioError('model.layers', `${total} layers after count is expanded, at most ${MAX_LAYERS}`)
  }
  return scenario.model.layers.flatMap(({ count, ...layer }) => Array<Layer>(count).fill(layer))
}

function expandProfiles(scenario: Scenario): Map<string, Map<string, KindTimes>> {
  const profiles = new Map<string, Map<string, KindTimes>>()
  for (const [name, kinds] of Object.entries(scenario.profiles)) {
    const times = new Map<string, KindTimes>()
    for (const [kind, { decodeMs, decodeMsPerExtraSequence, prefillMsPerToken, ...points }] of Object.entries(
      kinds
    )) {
      const measured = {
        decodeMs,
        decodeMsPerExtraSequence,
        prefillMsPerToken,
        ...(points.decodeMsByBatch && { decodeMsByBatch: ascending(points.decodeMsByBatch) }),
        ...(points.prefillMsByTokens && { prefillMsByTokens: ascending(points.prefillMsByTokens) }),
        decodeMsByContext: points.decodeMsByContext && ascending(points.decodeMsByContext),
        prefillMsPerTokenByContext:
          points.prefillMsPerTokenByContext && ascending(points.prefillMsPerTokenByContext)
      }
      times.set(kind, timesForContext(measured, scenario.workload))
    }
    profiles.set(name, times)
  }
  return profiles
}

function ascending(record: Record<string, number>): Point[] {
  return Object.entries(record)
    .map(([at, value]): Point => [Number(at), value])
    .sort((a, b) => a[0] - b[0])
}

/** zod's union errors nest: the branch that got furthest says what is wrong. */
function fromIssue(issue: z.core.$ZodIssue | undefined): ScenarioError {
  let path: PropertyKey[] = []
  let current = issue
  while (current !== undefined) {
    path = [...path, ...current.path]
    if (current.code !== 'invalid_union' || current.errors.length === 0) break
    const deepest = current.errors.reduce((best, other) =>
      (other[0]?.path.length ?? 0) > (best[0]?.path.length ?? 0) ? other : best
    )
    if (deepest[0] === undefined || (deepest[0].path.length === 0 && current.errors.length > 1)) break
    current = deepest[0]
  }
  return new ScenarioError(formatPath(path), (current?.message ?? 'not a scenario').replaceAll('\n', ' '))
}

function formatPath(path: readonly PropertyKey[]): string {
  let text = ''
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`
    else text += text === '' ? String(part) : `.${String(part)}`
  }
  return text === '' ? '(root)' : text.slice(0, 300)
}

function quote(name: string): string {
  return JSON.stringify(name)
}
