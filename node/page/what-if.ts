import type { ScenarioInput } from '../plan/scenario.ts'

/** A change of a scenario that is tried: nothing of the mesh changes by it. */
export type Change =
  | { kind: 'memory'; device: string; processor?: string | undefined; memoryBytes: number }
  | { kind: 'link'; between: readonly [string, string]; mbps: number; latencyMs: number }
  | { kind: 'device'; memoryBytes: number; like: string; mbps: number }

/** The changes with one more; it stands in the place of an earlier one of the same thing. */
export function withTried(changes: readonly Change[], change: Change): readonly Change[] {
  return [...changes.filter(other => keyOf(other) !== keyOf(change)), change]
}

function keyOf(change: Change): string {
  if (change.kind === 'memory') return `memory ${change.device} ${change.processor}`
  return change.kind === 'link' ? `link ${change.between.join(' ')}` : 'device'
}

/** From 0.1 Mbps, the slowest line worth a thought, to 40 Gbps, the fastest cable of a home. */
const MBPS_EXPONENTS = [-1, Math.log10(40_000)] as const
export const RATE_STEPS = 400

/** A rate's place on a slider of RATE_STEPS, where each step is so many percent. */
export function stepOf(mbps: number): number {
  const [least, most] = MBPS_EXPONENTS
  const share = (Math.log10(Math.max(mbps, 1e-9)) - least) / (most - least)
  return Math.round(RATE_STEPS * Math.min(1, Math.max(0, share)))
}

/** The rate at a place of that slider, in Mbps with three digits. */
export function mbpsAt(step: number): number {
  const [least, most] = MBPS_EXPONENTS
  return Number((10 ** (least + ((most - least) * step) / RATE_STEPS)).toPrecision(3))
}

type Pair = NonNullable<ScenarioInput['links']['pairs']>[number]

export const ADDED_DEVICE = 'another device'

/** The scenario with the changes in it. */
export function changed(scenario: ScenarioInput, changes: readonly Change[]): ScenarioInput {
  return changes.reduce(withChange, scenario)
}

function withChange(scenario: ScenarioInput, change: Change): ScenarioInput {
  switch (change.kind) {
    case 'memory': {
      const { device, processor, memoryBytes } = change
      const devices = scenario.devices.map(old => {
        if (old.id !== device) return old
        if (!('processors' in old)) return { ...old, memoryBytes }
        const processors = old.processors.map(each =>
          each.id === processor ? { ...each, memoryBytes } : each
        )
        return { ...old, processors }
      })
      return { ...scenario, devices }
    }
    case 'link': {
      const { between, mbps, latencyMs } = change
      const [a, b] = between
      const pairs = (scenario.links.pairs ?? []).filter(pair => !isBetween(pair, a, b))
      const links = {
        ...scenario.links,
        pairs: [...pairs, { between: [a, b] as [string, string], mbps, latencyMs }]
      }
      return { ...scenario, links }
    }
    case 'device': {
      const { memoryBytes, like, mbps } = change
      const id = ADDED_DEVICE
      const alike = scenario.devices.find(device => device.id === like)
      const profile = (alike && memoriesOf(alike)[0]?.profile) ?? like
      const pairs = scenario.devices.map((device): Pair => ({ between: [device.id, id], mbps, latencyMs: 0 }))
      return {
        ...scenario,
        devices: [...scenario.devices, { id, name: id, memoryBytes, profile }],
        links: { ...scenario.links, pairs: [...(scenario.links.pairs ?? []), ...pairs] }
      }
    }
  }
}

/** What of a device stages may fill: its memory, or that of each processor that it lists. */
export function memoriesOf(device: ScenarioInput['devices'][number]): {
  processor?: string
  memoryBytes: number
  profile: string
}[] {
  if (!('processors' in device)) return [device]
  return device.processors.map(({ id: processor, ...rest }) => ({ processor, ...rest }))
}

/** Mbps and delay of a pair as the scenario has them, the slower direction where they differ. */
export function linkOf(scenario: ScenarioInput, a: string, b: string): { mbps: number; latencyMs: number } {
  const found = (scenario.links.pairs ?? []).filter(pair => isBetween(pair, a, b))
  const measured = found.flatMap(pair => ('mbps' in pair ? [pair] : []))
  const slowest = measured.sort((one, other) => one.mbps - other.mbps)[0] ?? scenario.links.default
  return { mbps: slowest?.mbps ?? 0, latencyMs: slowest?.latencyMs ?? 0 }
}

function isBetween(pair: Pair, a: string, b: string): boolean {
  const ends = 'between' in pair ? pair.between : [pair.from, pair.to]
  return ends.includes(a) && ends.includes(b)
}
