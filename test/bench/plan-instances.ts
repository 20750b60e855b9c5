/** Seeded instances for benchmarks and verification: every device and every direction of every link differs. */
import type { ScenarioInput } from '../../node/plan/index.ts'

/** A small generator of numbers in [0, 1) with a fixed sequence for a seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export interface InstanceOptions {
  readonly devices: number
  /** All layers: embedding, decoder layers, head. */
  readonly layers: number
  readonly objective?: 'latency' | 'throughput'
  readonly batch?: number
  readonly privacy?: 'embedding' | 'prompt' | 'sealed'
  /**
   * Decoder layers a device can hold, the source the most; by default all devices together hold 1.2 to 4 times
   * the model.
   */
  readonly holds?: readonly [least: number, most: number]
  /** Every second decoder layer of another kind. @default false */
  readonly mixed?: boolean
  /** Stages take 0 to 5 ms beside their layers. @default false */
  readonly turns?: boolean
}

const LAYER_BYTES = 800e6
const EDGE_BYTES = 500e6

/**
 * Devices 0.8 to 10 ms a layer, links 5 to 1,000 Mbps with 0.2 to 20 ms, both spread evenly over the orders of
 * magnitude, each direction its own; 16 KiB hidden states.
 */
export function instance(seed: number, options: InstanceOptions): ScenarioInput {
  const random = randomNumbers(seed)
  // Of its own, so that instances with and without are otherwise the same.
  const randomTurn = randomNumbers(seed + 1e6)
  const even = (low: number, high: number): number => low + (high - low) * random()
  const spread = (low: number, high: number): number => Math.exp(even(Math.log(low), Math.log(high)))
  const { devices: count, layers } = options
  const fill = even(1.2, 4)
  const ids = Array.from({ length: count }, (_, at) => `d${at}`)
  const profiles: ScenarioInput['profiles'] = {}
  const devices = ids.map((id, at) => {
    const ms = spread(0.8, 10)
    const times = {
      decodeMs: ms,
      decodeMsPerExtraSequence: ms * even(0.02, 0.1),
      prefillMsPerToken: ms / 8
    }
    const wideMs = ms * even(0.8, 2)
    profiles[id] = {
      decoder: times,
      wide: { ...times, decodeMs: wideMs },
      head: { ...times, decodeMs: ms * 0.65 }
    }
    const share = even(0.4, 1.6)
    const [least, most] = options.holds ?? []
    const holds =
      least === undefined || most === undefined
        ? (layers * fill * share) / count
        : at === 0
          ? most
          : even(least, most)
    const turn = options.turns === true ? { turnMs: 5 * randomTurn() } : {}
    return { id, memoryBytes: Math.floor(LAYER_BYTES * holds), profile: id, ...turn }
  })
  const pairs = ids.flatMap(from =>
    ids.filter(to => to !== from).map(to => ({ from, to, mbps: spread(5, 1000), latencyMs: spread(0.2, 20) }))
  )
  const decoder = { weightBytes: LAYER_BYTES, activationBytes: 16384, kvBytesPerToken: 32768 }
  const decoders =
    options.mixed === true
      ? Array.from({ length: layers - 2 }, (_, at) => ({
          kind: at % 2 === 0 ? 'decoder' : 'wide',
          ...decoder,
          weightBytes: at % 2 === 0 ? LAYER_BYTES : 1.5 * LAYER_BYTES
        }))
      : [{ kind: 'decoder', count: layers - 2, ...decoder }]
  return {
    devices,
    source: 'd0',
    links: { hopOverheadMs: 1, pairs },
    profiles,
    model: {
      name: `instance-${seed}`,
      layers: [
        { kind: 'embedding', weightBytes: EDGE_BYTES, activationBytes: 16384 },
        ...decoders,
        { kind: 'head', weightBytes: EDGE_BYTES, activationBytes: 4 }
      ]
    },
    workload: { promptTokens: 32, newTokens: 96, batch: options.batch ?? 1, contextTokens: 128 },
    privacy: options.privacy ?? 'prompt',
    objective: options.objective ?? 'latency'
  }
}
