/** Random scenarios for property tests: small, awkward, and often just feasible or just not. */
import fc from 'fast-check'
import type { ScenarioInput } from '../../../node/plan/index.ts'

const KINDS = ['embedding', 'decoder', 'wide', 'head'] as const

const times = fc.record({
  decodeMs: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.double({ min: 0.1, max: 10, noNaN: true })),
  decodeMsPerExtraSequence: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 2, noNaN: true })),
  prefillMsPerToken: fc.double({ min: 0, max: 1, noNaN: true })
})

const link = fc.record({
  mbps: fc.oneof(fc.constantFrom(1, 10, 100), fc.double({ min: 0.5, max: 500, noNaN: true })),
  latencyMs: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 20, noNaN: true }))
})

export interface Sizes {
  readonly devices: { readonly min: number; readonly max: number }
  readonly layers: { readonly min: number; readonly max: number }
}

const SMALL: Sizes = { devices: { min: 1, max: 4 }, layers: { min: 1, max: 6 } }

/** Layers of unit-like weights, memory in the same small units: exact fits and near misses are common. */
export function randomScenario(sizes: Sizes = SMALL): fc.Arbitrary<ScenarioInput> {
  return fc
    .tuple(fc.integer(sizes.devices), fc.integer(sizes.layers), fc.boolean())
    .chain(([count, layerCount, uniform]) => {
      const layer = fc.record({
        kind: fc.constantFrom(...KINDS),
        weightBytes: fc.integer({ min: 1, max: 4 }),
        activationBytes: fc.constantFrom(4, 400, 4000, 16384),
        kvBytesPerToken: fc.constantFrom(0, 0, 1),
        stateBytes: fc.constantFrom(0, 0, 0, 1)
      })
      const layers: fc.Arbitrary<ScenarioInput['model']['layers']> = uniform
        ? fc.tuple(layer, layer, layer).map(([first, middle, last]) => [
            { ...first, kind: 'embedding' },
            { ...middle, kind: 'decoder', count: layerCount },
            { ...last, kind: 'head' }
          ])
        : fc.array(layer, { minLength: layerCount, maxLength: layerCount })
      return fc.record({
        devices: fc.tuple(
          ...Array.from({ length: count }, (_, at) =>
            fc
              .record({
                id: fc.constant(`d${at}`),
                memoryBytes: fc.integer({ min: 0, max: Math.max(8, Math.ceil(layerCount * 2.5)) }),
                profile: fc.constantFrom('p0', 'p1', 'p2'),
                turnMs: fc.oneof(fc.constant(0), fc.double({ min: 0.01, max: 5, noNaN: true })),
                beside: fc.constantFrom(0, 0, 0.5, 2, -0.5, -1)
              })
              // Less than nothing is a share of what the device's stages take otherwise.
              .map(({ beside, ...device }) => ({
                ...device,
                frameMs: beside < 0 ? beside * device.turnMs : beside
              }))
          )
        ),
        source: fc.integer({ min: 0, max: count - 1 }).map(at => `d${at}`),
        links: fc.record({
          default: link,
          hopOverheadMs: fc.constantFrom(0, 1),
          pairs: fc.tuple(
            ...Array.from({ length: count * count }, (_, at) => [Math.floor(at / count), at % count] as const)
              .filter(([from, to]) => from !== to)
              .map(([from, to]) => link.map(value => ({ from: `d${from}`, to: `d${to}`, ...value })))
          )
        }),
        model: layers.map(value => ({ name: 'random', layers: value })),
        profiles: fc.record({ p0: profile, p1: profile, p2: profile }),
        workload: fc.record({
          promptTokens: fc.integer({ min: 1, max: 5 }),
          newTokens: fc.integer({ min: 1, max: 5 }),
          batch: fc.oneof(
            fc.integer({ min: 1, max: 5 }),
            fc.integer({ min: 1, max: 4 }).map(max => ({ max }))
          ),
          contextTokens: fc.integer({ min: 0, max: 2 })
        }),
        privacy: fc.constantFrom('embedding' as const, 'prompt' as const, 'sealed' as const),
        metric: fc.constantFrom('tpot' as const, 'request' as const),
        objective: fc.constantFrom('latency' as const, 'throughput' as const)
      })
    })
}

const profile = fc.record({ embedding: times, decoder: times, wide: times, head: times })

/** The same, where devices may list one to three processors instead, each of which has the device's turn; at most five in all. */
export function withProcessors(): fc.Arbitrary<ScenarioInput> {
  const sizes: Sizes = { devices: { min: 1, max: 3 }, layers: { min: 1, max: 5 } }
  return randomScenario(sizes).chain(scenario => {
    const count = scenario.devices.length
    const most = Math.min(3, 6 - count)
    const memory = fc.integer({ min: 0, max: 8 })
    const lists = scenario.devices.map((_, at) =>
      fc.record({
        processors: fc.array(fc.record({ memoryBytes: memory, profile: fc.constantFrom('p0', 'p1', 'p2') }), {
          // One device at least has two, so that each instance is of that kind.
          minLength: at === 0 ? 2 : 1,
          maxLength: at === 0 ? most : 2
        }),
        mbps: fc.option(fc.constantFrom(1, 100, 1e6), { nil: undefined }),
        isListed: fc.boolean()
      })
    )
    return fc.tuple(...lists).map(
      (own): ScenarioInput => ({
        ...scenario,
        devices: scenario.devices.map((device, at) => {
          const { processors, mbps, isListed } = own[at]!
          if (at > 0 && !isListed) return device
          return {
            id: device.id,
            ...(device.turnMs !== undefined && { turnMs: device.turnMs }),
            ...(device.frameMs !== undefined && { frameMs: device.frameMs }),
            processors: processors.map((processor, n) => ({
              id: n === 0 ? 'cpu' : `gpu-${n}`,
              ...processor
            })),
            ...(mbps !== undefined && { processorLinkMbps: mbps })
          }
        })
      })
    )
  })
}

/** The same with one speed for all and links that are all alike: many devices, and processors of others, are the same in every figure. */
export function withTwins(): fc.Arbitrary<ScenarioInput> {
  const alike = { mbps: 100, latencyMs: 0 }
  const figures = fc.tuple(fc.integer({ min: 3, max: 8 }), fc.constantFrom(0, 1.5))
  return fc.tuple(withProcessors(), figures).map(([scenario, [memoryBytes, turnMs]]) => ({
    ...scenario,
    devices: scenario.devices.map(device => {
      const { frameMs: _, ...one } = device
      if (!('processors' in one)) return { ...one, memoryBytes, profile: 'p0', turnMs }
      const processors = one.processors.map(({ id }) => ({ id, memoryBytes, profile: 'p0' }))
      return { ...one, processors, processorLinkMbps: alike.mbps, turnMs }
    }),
    links: { default: alike }
  }))
}

/** The same on links that cost nothing, where a stage with all layers takes long beside them and one of several nothing. */
export function withLoneTurns(): fc.Arbitrary<ScenarioInput> {
  return randomScenario({ devices: { min: 2, max: 3 }, layers: { min: 2, max: 4 } }).map(scenario => ({
    ...scenario,
    devices: scenario.devices.map(device => ({ ...device, turnMs: 5, frameMs: -5 })),
    links: { default: { mbps: 1e6, latencyMs: 0 } },
    privacy: 'embedding',
    workload: { ...scenario.workload, batch: { max: 4 } }
  }))
}
