/**
 * The paper's testbed as scenarios: 12 Jetson AGX Orin, 2 Orin NX, one RTX 3090 (arXiv 2405.14371, Table III).
 *
 * Times are calibrated on the paper's Table IV and Figure 7: milliseconds per fp32 decoder layer at batch 1,
 * per extra sequence, and per prompt token; 6.3 ms a hop. What the paper does not say (usable memory, added
 * delays, batch and micro-batch of most cells) is chosen here, once, for all cells.
 */
import type { ScenarioInput } from '../../node/plan/index.ts'

const GIB = 2 ** 30
const VOCABULARY = 32000
const FP32_BYTES = 4

export const MBPS = [1, 10, 20, 30, 50] as const
export type ModelName = keyof typeof MODELS
export type DeviceClass = 'agx' | 'nx' | 'rtx'

/** Bytes of a decoder layer, KV cache of a token in one layer, and ms of a decoder layer at batch 1. */
const MODELS = {
  'llama2-7b': { layers: 32, hidden: 4096, layerBytes: 809.5e6, kv: 32768, agx: 4.3, nx: 8.6, rtx: 0.9 },
  'llama2-13b': { layers: 40, hidden: 5120, layerBytes: 1269e6, kv: 40960, agx: 5.74, nx: 11.48, rtx: 1.41 },
  'llama2-70b': { layers: 80, hidden: 8192, layerBytes: 3420e6, kv: 8192, agx: 40.5, nx: 81, rtx: 3.8 }
} as const

/** Times of a 7B layer; other models in proportion to the bytes of a layer. */
const EXTRA_SEQUENCE_MS = { agx: 0.2435, nx: 0.43, rtx: 0.0225 }
const PREFILL_MS_PER_TOKEN = { agx: 11.9 / 32, nx: 22 / 32, rtx: 1.6 / 32 }
export const USABLE_BYTES = { agx: 29 * GIB, nx: 12 * GIB, rtx: Math.floor(23.7 * GIB) }

export interface TestbedOptions {
  readonly model: ModelName
  /** Between the source and the 3090; all other pairs have 50. */
  readonly mbps: number
  /** @default 'agx' */
  readonly source?: 'agx' | 'nx'
  /** Usable memory of the 3090. @default 23.7 GiB */
  readonly rtxBytes?: number
  /** @default 8: the largest the paper names */
  readonly maxBatch?: number
}

export function testbed({ model, mbps, source = 'agx', ...options }: TestbedOptions): ScenarioInput {
  const { layers, hidden, layerBytes, kv } = MODELS[model]
  const isLargest = model === 'llama2-70b'
  const edgeBytes = VOCABULARY * hidden * FP32_BYTES
  const names: [DeviceClass, number][] = [
    ['agx', isLargest ? 11 : 12],
    ['nx', isLargest ? 0 : 2],
    ['rtx', 1]
  ]
  const devices = names.flatMap(([profile, count]) =>
    Array.from({ length: count }, (_, at) => ({
      id: profile === 'rtx' ? 'rtx' : `${profile}-${at}`,
      memoryBytes: profile === 'rtx' ? (options.rtxBytes ?? USABLE_BYTES.rtx) : USABLE_BYTES[profile],
      profile
    }))
  )
  return {
    devices,
    source: `${source}-0`,
    cloud: 'rtx',
    links: {
      default: { mbps: 50, latencyMs: 0 },
      hopOverheadMs: 6.3,
      pairs: [{ between: [`${source}-0`, 'rtx'], mbps, latencyMs: 0 }]
    },
    model: {
      name: model,
      layers: [
        { kind: 'embedding', weightBytes: edgeBytes, activationBytes: hidden * FP32_BYTES },
        {
          kind: 'decoder',
          count: layers,
          weightBytes: layerBytes,
          activationBytes: hidden * FP32_BYTES,
          kvBytesPerToken: kv
        },
        { kind: 'head', weightBytes: edgeBytes, activationBytes: 4 }
      ]
    },
    profiles: Object.fromEntries(
      names
        .filter(([, count]) => count > 0)
        .map(([name]) => [name, profileOf(model, name, edgeBytes / layerBytes)])
    ),
    workload: {
      promptTokens: 32,
      newTokens: 96,
      batch: { max: options.maxBatch ?? 8 },
      contextTokens: 128
    },
    privacy: 'embedding',
    metric: 'tpot'
  }
}

/** The head takes as much of a layer's time as it has of a layer's bytes; the embedding is a look-up. */
function profileOf(model: ModelName, name: DeviceClass, headShare: number) {
  const decodeMs = MODELS[model][name]
  const scale = MODELS[model].layerBytes / MODELS['llama2-7b'].layerBytes
  const extra = EXTRA_SEQUENCE_MS[name] * scale
  const prefill = PREFILL_MS_PER_TOKEN[name] * scale
  return {
    decoder: {
      decodeMs,
      decodeMsPerExtraSequence: round(extra),
      prefillMsPerToken: round(prefill)
    },
    head: {
      decodeMs: round(decodeMs * headShare),
      decodeMsPerExtraSequence: round(extra * headShare),
      prefillMsPerToken: round(prefill * headShare)
    }
  }
}

function round(ms: number): number {
  return Math.round(ms * 1e5) / 1e5
}

/** Every committed testbed scenario, by file name. */
export function testbedFiles(): Map<string, ScenarioInput> {
  const files = new Map<string, ScenarioInput>()
  for (const model of Object.keys(MODELS) as ModelName[]) {
    for (const mbps of MBPS) {
      files.set(`${model}-${mbps}mbps.json`, testbed({ model, mbps }))
      if (model !== 'llama2-70b') {
        files.set(`${model}-${mbps}mbps-nx.json`, testbed({ model, mbps, source: 'nx' }))
      }
    }
  }
  return files
}

export function toJson(scenario: ScenarioInput): string {
  return `${JSON.stringify(scenario, undefined, 2)}\n`
}
