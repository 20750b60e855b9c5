import type { Block } from '../manifest.ts'
import { float32, type GraphBuilder, int64 } from './builder.ts'

type Growth = NonNullable<Block['attention']['queryGrowth']>

/**
 * query (batch, tokens, width) times 1 + factor log(1 + floor(position / tokens)) (`llama_4_scaling_beta` of
 * transformers' Ministral 3). `positions` (batch, tokens) are divided as integers, which rounds down.
 */
export function grownQuery(
  graph: GraphBuilder,
  { factor, tokens }: Growth,
  positions: string,
  query: string
): string {
  const scale = graph.common(`query growth ${factor} ${tokens} ${positions}`, () => {
    const times = graph.onnx('Div', [positions, int64(graph, [BigInt(tokens)])])
    const floats = graph.onnx('Cast', [graph.onnx('Add', [times, int64(graph, [1n])])], { to: FLOAT })
    const growth = graph.onnx('Mul', [graph.onnx('Log', [floats]), float32(graph, factor)])
    return graph.onnx('Unsqueeze', [graph.onnx('Add', [growth, float32(graph, 1)]), int64(graph, [2n])])
  })
  return graph.onnx('Mul', [query, scale])
}

/** TensorProto.DataType of onnx.proto. */
const FLOAT = 1
