/**
 * The paper's own figures (arXiv 2405.14371v1). Table IV as printed; Figures 7 to 10 read off the drawings, to
 * about 1 ms and 0.5 tokens/s (70B: 1.5 ms and 0.005 tokens/s).
 */
import type { Method } from '../../node/plan/index.ts'
import type { ModelName } from '../scenarios/testbed.ts'

/** A figure, `OOM`, or nothing where the paper gives none. */
export type Cell = number | 'OOM' | undefined

/** The paper's names; its EdgeShard is its own dynamic program. */
export const PAPER_METHODS: readonly { readonly name: string; readonly method: Method }[] = [
  { name: 'Edge-Solo', method: 'edge-solo' },
  { name: 'Cloud-Edge-Even', method: 'cloud-edge-even' },
  { name: 'Cloud-Edge-Opt', method: 'cloud-edge-opt' },
  { name: 'EdgeShard-Even', method: 'edgeshard-even' },
  { name: 'EdgeShard', method: 'paper-dp' }
]

type PerMethod = Partial<Record<Method, Cell>>

/** Table IV: 1 Mbps between source and cloud, AGX Orin as source. */
export const TABLE_4: Record<'latency' | 'throughput', Record<ModelName, PerMethod>> = {
  latency: {
    'llama2-7b': {
      'edge-solo': 140.34,
      'cloud-edge-even': 227.35,
      'cloud-edge-opt': 140.34,
      'paper-dp': 75.88
    },
    'llama2-13b': {
      'edge-solo': 'OOM',
      'cloud-edge-even': 319.44,
      'cloud-edge-opt': 243.45,
      'paper-dp': 173.43
    },
    'llama2-70b': {
      'edge-solo': 'OOM',
      'cloud-edge-even': 'OOM',
      'cloud-edge-opt': 'OOM',
      'paper-dp': 3086.43
    }
  },
  throughput: {
    'llama2-7b': { 'edge-solo': 24.36, 'cloud-edge-even': 7.56, 'cloud-edge-opt': 24.36, 'paper-dp': 52.45 },
    'llama2-13b': { 'edge-solo': 'OOM', 'cloud-edge-even': 4.68, 'cloud-edge-opt': 4.74, 'paper-dp': 10.45 },
    'llama2-70b': { 'edge-solo': 'OOM', 'cloud-edge-even': 'OOM', 'cloud-edge-opt': 'OOM', 'paper-dp': 1.25 }
  }
}

/** Figures 7 (ms a token) and 8 (tokens/s): 1, 10, 20, 30 and 50 Mbps between source and cloud. */
export const SWEEPS: Record<
  'latency' | 'throughput',
  Record<ModelName, Partial<Record<Method, readonly number[]>>>
> = {
  latency: {
    'llama2-7b': {
      'edge-solo': [140.3, 140.3, 140.3, 140.3, 140.3],
      'cloud-edge-even': [227.4, 107, 103, 101, 100],
      'cloud-edge-opt': [140.3, 61.3, 54.9, 51.1, 51],
      'paper-dp': [75.9, 61.3, 54.9, 51.1, 51]
    },
    'llama2-13b': {
      'cloud-edge-even': [243, 178.5, 172.8, 170.2, 171],
      'cloud-edge-opt': [319, 168, 160.2, 158.3, 155.7],
      'paper-dp': [173.4, 168, 160.2, 158.3, 155.7]
    },
    'llama2-70b': {
      'edgeshard-even': [3108.5, 3108.5, 3108.5, 3108.5, 3108.5],
      'paper-dp': [3086.4, 3027, 3014, 3014, 3014]
    }
  },
  throughput: {
    'llama2-7b': {
      'edge-solo': [24.4, 24.4, 24.4, 24.4, 24.4],
      'cloud-edge-even': [7.6, 29.6, 35.2, 37.4, 38.7],
      'cloud-edge-opt': [24.4, 43, 70, 75, 80],
      'paper-dp': [52.5, 52.5, 70, 75, 80]
    },
    'llama2-13b': {
      'cloud-edge-even': [4.7, 10.9, 11.4, 11.6, 11.8],
      'cloud-edge-opt': [4.7, 12.4, 12.7, 12.8, 12.9],
      'paper-dp': [10.5, 25.2, 12.7, 12.8, 12.9]
    },
    'llama2-70b': {
      'edgeshard-even': [1.17, 1.17, 1.17, 1.17, 1.17],
      'paper-dp': [1.25, 1.36, 1.43, 1.43, 1.43]
    }
  }
}

/** Figure 9: 7B at 1 Mbps with an AGX Orin or an Orin NX as source. */
export const FIGURE_9: Record<'latency' | 'throughput', Record<'agx' | 'nx', PerMethod>> = {
  latency: {
    agx: { 'edge-solo': 140.3, 'cloud-edge-even': 227.4, 'cloud-edge-opt': 140.3, 'paper-dp': 75.9 },
    nx: { 'edge-solo': 'OOM', 'cloud-edge-even': 'OOM', 'cloud-edge-opt': 206, 'paper-dp': 80.8 }
  },
  throughput: {
    agx: { 'edge-solo': 24.4, 'cloud-edge-even': 7.6, 'cloud-edge-opt': 24.4, 'paper-dp': 52.5 },
    nx: { 'edge-solo': 'OOM', 'cloud-edge-even': 'OOM', 'cloud-edge-opt': 4.2, 'paper-dp': 21.6 }
  }
}

/** Figure 10: tokens/s at 1 Mbps without and with bubbles. */
export const FIGURE_10: Record<'noBubble' | 'bubble', Record<'llama2-7b' | 'llama2-13b', PerMethod>> = {
  noBubble: {
    'llama2-7b': { 'cloud-edge-even': 7.92, 'cloud-edge-opt': 24.4, 'paper-dp': 50 },
    'llama2-13b': { 'cloud-edge-even': 6.37, 'cloud-edge-opt': 6.63, 'paper-dp': 15.66 }
  },
  bubble: {
    'llama2-7b': { 'cloud-edge-even': 7.56, 'cloud-edge-opt': 24.4, 'paper-dp': 43 },
    'llama2-13b': { 'cloud-edge-even': 4.68, 'cloud-edge-opt': 4.74, 'paper-dp': 10.45 }
  }
}
