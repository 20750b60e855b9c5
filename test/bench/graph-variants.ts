/** A model's graph with one of its optimisations undone, to see what that one gains. */
import type { LayerFile, Manifest, TensorEntry } from '../../models/manifest.ts'
import type { Graph, Initializer, Node } from '../../models/onnx/model.ts'
import { NO_COPY } from '../../models/onnx/shard-graph.ts'

/** Every MatMulNBits computes in float32 inside, where the product asks for 8-bit integers. */
export function floatInside(graph: Graph): Graph {
  const nodes = graph.nodes.map(node =>
    node.op === 'MatMulNBits' ? { ...node, attributes: { ...node.attributes, accuracy_level: 1 } } : node
  )
  return { ...graph, nodes }
}

/** Without the output at which the binding stops copying: every run copies logits and the whole KV cache. */
export function copiedOutputs(graph: Graph): Graph {
  return {
    ...graph,
    outputs: graph.outputs.filter(output => output.name !== NO_COPY),
    nodes: graph.nodes.filter(node => !node.outputs.includes(NO_COPY))
  }
}

/** q, k and v, and gate and up, are products of their own. */
export function separateProjections(graph: Graph, { shape, layers }: Manifest): Graph {
  const { heads, kvHeads, headSize, ffnSize } = shape
  const initializers = [...graph.initializers]
  const nodes: Node[] = []
  const separated = new Map<string, string[]>()
  const split = (node: Node, file: LayerFile, name: string, rows: number[]) => {
    let start = 0
    const outputs = rows.map((count, i) => {
      const part = (kind: string) => {
        const tensor = file.tensors.find(t => t.name === `${name}.${kind}`)!
        const initializer = rowsOf(tensor, start, count, file.sha256, `${node.outputs[0]}.${i}.${kind}`)
        initializers.push(initializer)
        return initializer.name
      }
      const output = `${node.outputs[0]}.${i}`
      const inputs = [node.inputs[0]!, part('weight'), part('scales')]
      nodes.push({ ...node, inputs, outputs: [output], attributes: { ...node.attributes, N: count } })
      start += count
      return output
    })
    separated.set(node.outputs[0]!, outputs)
  }
  for (const node of graph.nodes) {
    const [, layer, name] = /^layer(\d+)\.(qkv|gate_up)\.weight$/.exec(node.inputs[1] ?? '') ?? []
    const from = separated.get(node.inputs[0] ?? '')
    if (node.op === 'MatMulNBits' && layer !== undefined) {
      const kv = kvHeads * headSize
      const rows = name === 'qkv' ? [heads * headSize, kv, kv] : [ffnSize, ffnSize]
      split(node, layers[Number(layer)]!, name!, rows)
    } else if (node.op === 'GroupQueryAttention' && from !== undefined) {
      nodes.push({ ...node, inputs: [...from, ...node.inputs.slice(3)] })
    } else if (node.op === 'Split' && from !== undefined) {
      // What read the two halves reads the two products.
      for (const [i, output] of node.outputs.entries()) separated.set(output, [from[i]!])
    } else {
      nodes.push({ ...node, inputs: node.inputs.map(input => separated.get(input)?.[0] ?? input) })
    }
  }
  const used = new Set(nodes.flatMap(node => node.inputs))
  return { ...graph, nodes, initializers: initializers.filter(({ name }) => used.has(name)) }
}

/** Rows [start, start + count) of a tensor of blocks. */
function rowsOf(tensor: TensorEntry, start: number, count: number, file: string, name: string): Initializer {
  const { shape, offset, bytes, type } = tensor
  const rowBytes = bytes / shape[0]!
  const dims = type === 'uint8' ? [count, ...shape.slice(1)] : [count * shape[1]!]
  return { name, type, dims, data: { file, offset: offset + start * rowBytes, bytes: count * rowBytes } }
}
