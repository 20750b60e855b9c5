import { ProtobufWriter } from './protobuf.ts'

/** Element types by their number in onnx.proto's TensorProto.DataType. */
const DATA_TYPES = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9 } as const

export type DataType = keyof typeof DATA_TYPES

/** A number is a float attribute where it is wrapped, an integer otherwise; a branch is a graph that sees its outer values. */
export type Attribute =
  | number
  | { float: number }
  | { text: string }
  | { ints: readonly number[] }
  | { branch: Graph }

export interface Node {
  op: string
  /** '' is ONNX's own domain. */
  domain: '' | 'com.microsoft'
  /** '' leaves an optional input or output out. */
  inputs: string[]
  outputs: string[]
  attributes: Record<string, Attribute>
}

/** A graph input or output; a string dimension is symbolic, without dimensions it is a sequence of tensors. */
export interface Value {
  name: string
  type: DataType
  dims?: (number | string)[]
}

/** A constant: bytes in the model, or a piece of a file beside it. */
export interface Initializer {
  name: string
  type: DataType
  dims: number[]
  data: Uint8Array | { file: string; offset: number; bytes: number }
}

export interface Graph {
  name: string
  inputs: Value[]
  outputs: Value[]
  nodes: Node[]
  initializers: Initializer[]
}

/** ONNX IR version and operator set that ONNX Runtime 1.30 reads and whose operators we use. */
const IR_VERSION = 10
const OPSETS = [
  { domain: '', version: 21 },
  { domain: 'com.microsoft', version: 1 }
]

/** Serialises an ONNX ModelProto (field numbers: onnx.proto of ONNX 1.16). */
export function encodeModel(graph: Graph): Uint8Array {
  const model = new ProtobufWriter().int(1, IR_VERSION).string(2, 'edgeshard').message(7, encodeGraph(graph))
  for (const { domain, version } of OPSETS) {
    model.message(8, new ProtobufWriter().string(1, domain).int(2, version))
  }
  return model.finish()
}

function encodeGraph(graph: Graph): ProtobufWriter {
  const writer = new ProtobufWriter()
  for (const node of graph.nodes) writer.message(1, encodeNode(node))
  writer.string(2, graph.name)
  for (const initializer of graph.initializers) writer.message(5, encodeInitializer(initializer))
  for (const input of graph.inputs) writer.message(11, encodeValue(input))
  for (const output of graph.outputs) writer.message(12, encodeValue(output))
  return writer
}

function encodeNode(node: Node): ProtobufWriter {
  const writer = new ProtobufWriter()
  for (const input of node.inputs) writer.string(1, input)
  for (const output of node.outputs) writer.string(2, output)
  writer.string(3, node.outputs[0] ?? '').string(4, node.op)
  for (const [name, value] of Object.entries(node.attributes)) {
    const attribute = new ProtobufWriter().string(1, name)
    // AttributeProto.type: FLOAT is 1, INT is 2, STRING is 3, GRAPH is 5, INTS is 7.
    if (typeof value === 'number') attribute.int(3, value).int(20, 2)
    else if ('float' in value) attribute.float(2, value.float).int(20, 1)
    else if ('text' in value) attribute.string(4, value.text).int(20, 3)
    else if ('ints' in value) {
      for (const int of value.ints) attribute.int(8, int)
      attribute.int(20, 7)
    } else attribute.message(6, encodeGraph(value.branch)).int(20, 5)
    writer.message(5, attribute)
  }
  return writer.string(7, node.domain)
}

function encodeInitializer({ name, type, dims, data }: Initializer): ProtobufWriter {
  const writer = new ProtobufWriter()
  for (const dim of dims) writer.int(1, dim)
  writer.int(2, DATA_TYPES[type]).string(8, name)
  if (data instanceof Uint8Array) return writer.bytes(9, data)
  const entries = { location: data.file, offset: `${data.offset}`, length: `${data.bytes}` }
  for (const [key, value] of Object.entries(entries)) {
    writer.message(13, new ProtobufWriter().string(1, key).string(2, value))
  }
  // data_location EXTERNAL
  return writer.int(14, 1)
}

function encodeValue({ name, type, dims }: Value): ProtobufWriter {
  const tensor = new ProtobufWriter().int(1, DATA_TYPES[type])
  const typeProto = new ProtobufWriter()
  if (dims === undefined) {
    const element = new ProtobufWriter().message(1, tensor)
    typeProto.message(4, new ProtobufWriter().message(1, element))
  } else typeProto.message(1, tensor.message(2, encodeShape(dims)))
  return new ProtobufWriter().string(1, name).message(2, typeProto)
}

function encodeShape(dims: (number | string)[]): ProtobufWriter {
  const shape = new ProtobufWriter()
  for (const dim of dims) {
    const writer = new ProtobufWriter()
    shape.message(1, typeof dim === 'number' ? writer.int(1, dim) : writer.string(2, dim))
  }
  return shape
}
