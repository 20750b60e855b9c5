/** Attention of one layer behind a context: each query head by itself, and the heads of a group as rows of one, in turns. */
import { GraphBuilder } from '../../models/onnx/builder.ts'
import { GROUPED_ROWS } from '../../models/onnx/grouped-attention.ts'
import { Lanes } from '../../models/onnx/lanes.ts'
import { OnnxSession, Tensor } from '../../models/onnx/session.ts'
import { NO_COPY } from '../../models/onnx/shard-graph.ts'
import { quantile } from './statistics.ts'

const SHAPES = {
  '1.1B, 32/4 x 64': { heads: 32, kvHeads: 4, headSize: 64 },
  'Qwen3-8B, 32/8 x 128': { heads: 32, kvHeads: 8, headSize: 128 },
  'Qwen3-30B-A3B, 32/4 x 128': { heads: 32, kvHeads: 4, headSize: 128 }
}
type Sizes = (typeof SHAPES)[keyof typeof SHAPES]

/** Written between two runs, as other layers' weights are read: no layer finds its cache in the processor's. */
const flush = new Float64Array((32 * 2 ** 20) / 8)

export interface AttentionSetting {
  context: number
  rows: number
  threads: number
  runs: number
}

interface AttentionTimes {
  apartMs: number
  groupedMs: number
  /** Whether both came to the same bits. */
  isSame: boolean
}

/** Medians of the faster halves, which what disturbs a run is not in. */
async function timeAttention(sizes: Sizes, setting: AttentionSetting): Promise<AttentionTimes> {
  const { context, rows, threads, runs } = setting
  const { heads, kvHeads, headSize } = sizes
  const width = heads * headSize
  const session = await OnnxSession.create(attentionGraph(sizes), { threading: { threads, spinUs: 0 } })
  const capacity = context + rows * (heads / kvHeads)
  const cache = () => tensor([1, kvHeads, capacity, headSize])
  const [key, value, output] = [cache(), cache(), tensor([1, rows, width])]
  const grouped = Int32Array.of(0)
  const feeds = {
    qkv: tensor([1, rows, width + 2 * kvHeads * headSize]),
    past_key: key,
    past_value: value,
    seqlens: new Tensor('int32', Int32Array.of(context + rows - 1), [1]),
    total: new Tensor('int32', Int32Array.of(context + rows), []),
    [GROUPED_ROWS]: new Tensor('int32', grouped, [])
  }
  const fetches = { [NO_COPY]: null, attended: output, present_key: key, present_value: value }
  const times: [apart: number[], grouped: number[]] = [[], []]
  const results: string[] = []
  for (let run = 0; run < runs; run++) {
    for (const form of [0, 1] as const) {
      grouped[0] = form === 1 ? rows : 0
      flush.fill(run)
      const began = performance.now()
      await session.run(feeds, fetches)
      times[form].push(performance.now() - began)
      results[form] = Buffer.from((output.data as Float32Array).slice().buffer).toString('base64')
    }
  }
  await session.release()
  const [apartMs, groupedMs] = [quantile(times[0], 0.25), quantile(times[1], 0.25)]
  return { apartMs, groupedMs, isSame: results[0] === results[1] }
}

/** What a decoder layer has of attention, without its weights. */
function attentionGraph({ heads, kvHeads, headSize }: Sizes) {
  const graph = new GraphBuilder()
  graph.onnx('SequenceEmpty', [], {}, graph.sequenceOutput(NO_COPY))
  const width = heads * headSize
  graph.input('qkv', 'float32', ['batch', 'tokens', width + 2 * kvHeads * headSize])
  graph.input('seqlens', 'int32', ['slots'])
  graph.input('total', 'int32', [])
  const scale = 1 / Math.sqrt(headSize)
  const attended = new Lanes(graph, 1, true).attention({
    packed: ['qkv', '', ''],
    width,
    sizes: { kvHeads, headSize },
    past: ['past_key', 'past_value'],
    present: ['present_key', 'present_value'],
    seqlens: 'seqlens',
    total: 'total',
    shared: [],
    attributes: { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 0, scale: { float: scale } },
    grouped: { heads, kvHeads, headSize, scale, turning: undefined }
  })
  graph.output('attended', 'float32', ['batch', 'tokens', width])
  graph.onnx('Identity', [attended], {}, 'attended')
  return graph.build('attention')
}

function tensor(dims: number[]): Tensor {
  const data = new Float32Array(dims.reduce((product, n) => product * n, 1))
  let state = dims.length
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    data[i] = state / 2 ** 31 - 1
  }
  return new Tensor('float32', data, dims)
}

/** A row for each shape, context and number of rows. */
export async function printAttention(
  settings: readonly AttentionSetting[],
  say: (line: string) => void
): Promise<void> {
  say('attention of a layer, ms         context  rows     apart   as rows   ratio  bits')
  for (const [name, sizes] of Object.entries(SHAPES)) {
    for (const setting of settings) {
      const { apartMs, groupedMs, isSame } = await timeAttention(sizes, setting)
      const cells = [
        `${setting.context}`.padStart(8),
        `${setting.rows}`.padStart(6),
        apartMs.toFixed(2).padStart(10),
        groupedMs.toFixed(2).padStart(10),
        `${(apartMs / groupedMs).toFixed(2)} x`.padStart(8)
      ]
      say(`${name.padEnd(32)}${cells.join('')}  ${isSame ? 'same' : 'others'}`)
    }
  }
}
