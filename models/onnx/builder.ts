import type { Attribute, DataType, Graph, Initializer, Node, Value } from './model.ts'

/** Collects a graph's parts and names what its nodes produce. */
export class GraphBuilder {
  readonly #names: { count: number }
  readonly inputs: Value[] = []
  readonly outputs: Value[] = []
  readonly nodes: Node[] = []
  readonly initializers: Initializer[] = []
  readonly #common = new Map<string, string>()

  constructor(names = { count: 0 }) {
    this.#names = names
  }

  /** A graph within this one: it sees what this one names, and names nothing twice. */
  branch(): GraphBuilder {
    return new GraphBuilder(this.#names)
  }

  input(name: string, type: DataType, dims: (number | string)[]): string {
    this.inputs.push({ name, type, dims })
    return name
  }

  output(name: string, type: DataType, dims: (number | string)[]): string {
    this.outputs.push({ name, type, dims })
    return name
  }

  /** A sequence of float tensors as an output. */
  sequenceOutput(name: string): string {
    this.outputs.push({ name, type: 'float32' })
    return name
  }

  constant(name: string, type: DataType, dims: number[], data: Initializer['data']): string {
    this.initializers.push({ name, type, dims, data })
    return name
  }

  /** An operator of ONNX's own domain; returns the name of its output. */
  onnx(op: string, inputs: string[], attributes: Record<string, Attribute> = {}, output?: string): string {
    return this.#add('', op, inputs, attributes, [output ?? this.name(op)])
  }

  /** An operator of ONNX Runtime's domain with one output. */
  contrib(op: string, inputs: string[], attributes: Record<string, Attribute> = {}, output?: string): string {
    return this.#add('com.microsoft', op, inputs, attributes, [output ?? this.name(op)])
  }

  /** An operator with several outputs, named by the caller. */
  node(node: Node): void {
    this.nodes.push(node)
  }

  /** The name of what several layers have in common: made when it is first asked for under such a key. */
  common(key: string, make: () => string): string {
    let name = this.#common.get(key)
    if (name === undefined) {
      name = make()
      this.#common.set(key, name)
    }
    return name
  }

  name(prefix: string): string {
    return `${prefix}_${this.#names.count++}`
  }

  build(name: string): Graph {
    const { inputs, outputs, nodes, initializers } = this
    return { name, inputs, outputs, nodes, initializers }
  }

  #add(
    domain: Node['domain'],
    op: string,
    inputs: string[],
    attributes: Record<string, Attribute>,
    outputs: [string]
  ): string {
    this.nodes.push({ op, domain, inputs, outputs, attributes })
    return outputs[0]
  }
}

/** A small constant vector of 64-bit integers. */
export function int64(graph: GraphBuilder, values: bigint[]): string {
  const data = new Uint8Array(BigInt64Array.from(values).buffer)
  return graph.constant(graph.name('int64'), 'int64', [values.length], data)
}

/** A constant 64-bit integer, without dimensions. */
export function scalarInt64(graph: GraphBuilder, value: bigint): string {
  const data = new Uint8Array(BigInt64Array.of(value).buffer)
  return graph.constant(graph.name('int64'), 'int64', [], data)
}

/** A constant vector of so many ones. */
export function ones(graph: GraphBuilder, count: number): string {
  const data = new Uint8Array(new Float32Array(count).fill(1).buffer)
  return graph.constant(graph.name('ones'), 'float32', [count], data)
}

/** A constant number, as a vector of one. */
export function float32(graph: GraphBuilder, value: number): string {
  const data = new Uint8Array(Float32Array.of(value).buffer)
  return graph.constant(graph.name('float32'), 'float32', [1], data)
}
