import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { InferenceSession } from 'onnxruntime-node'
import { expect, it } from 'vitest'
import { encodeModel, type Graph } from '../../../models/onnx/model.ts'
import { shardGraph } from '../../../models/onnx/shard-graph.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import {
  BESIDE,
  BIASED,
  CONVOLVED,
  LATENT,
  LAYERED,
  MIXED,
  PARTED,
  type RandomModelOptions,
  randomModel,
  STATEFUL
} from '../../fixtures/random-model.ts'

// These sessions are in this thread, without the runtime that sets it.
process.env.ORT_DISABLE_TELEMETRY = '1'

const CASES: Record<string, RandomModelOptions> = {
  plain: { optional: ['q_norm', 'k_norm', 'qkv_bias'] },
  'shifted blocks': { quantization: { bits: 4, blockSize: 32, shifted: true } },
  'windows, caps, queries that grow': { shape: LAYERED },
  experts: { shape: MIXED },
  'experts with biases': { shape: BIASED },
  'experts beside a dense unit': { shape: BESIDE },
  'latent vectors': { shape: LATENT },
  states: { shape: STATEFUL },
  convolutions: { shape: CONVOLVED },
  'layers of one part': { shape: PARTED },
  'layers of one part in blocks': { shape: PARTED, quantization: { bits: 8, blockSize: 32 } }
}

/** Operators that a lane may have twice, which are of a few small numbers: none for each layer. */
const MOST_TWICE = 10

/** Operators by their names: how many a graph has, with all its branches. */
type Counts = Map<string, number>

function operatorsOf(graph: Graph, counts: Counts = new Map()): Counts {
  for (const { op, attributes } of graph.nodes) {
    counts.set(op, (counts.get(op) ?? 0) + 1)
    for (const attribute of Object.values(attributes)) {
      if (typeof attribute === 'object' && 'branch' in attribute) operatorsOf(attribute.branch, counts)
    }
  }
  return counts
}

/** Operators of a graph, and of its branches, whose inputs are all constants: what they come to could be one. */
function ofConstants({ nodes, initializers }: Graph, around: readonly string[] = []): string[] {
  const constants = [...around, ...initializers.map(({ name }) => name)]
  return nodes.flatMap(({ op, inputs, attributes }) => {
    const given = inputs.filter(name => name !== '')
    const isConstant = given.length > 0 && given.every(name => constants.includes(name))
    const branches = Object.values(attributes).flatMap(attribute =>
      typeof attribute === 'object' && 'branch' in attribute ? ofConstants(attribute.branch, constants) : []
    )
    return isConstant ? [op, ...branches] : branches
  })
}

/** The parts of a message of protobuf, by their fields: bytes where they have a length. */
function* partsOf(message: Buffer): Generator<[field: number, bytes: Buffer]> {
  let at = 0
  const varint = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++]!
      value += (byte & 127) * scale
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const tag = varint()
    const [field, wire] = [Math.floor(tag / 8), tag % 8]
    if (wire === 0) varint()
    else {
      const length = wire === 2 ? varint() : wire === 5 ? 4 : 8
      yield [field, message.subarray(at, at + length)]
      at += length
    }
  }
}

const childrenOf = (message: Buffer, field: number) =>
  [...partsOf(message)].filter(([own]) => own === field).map(([, bytes]) => bytes)

/** The same of a GraphProto (field numbers: onnx.proto). */
function operatorsIn(graph: Buffer, counts: Counts = new Map()): Counts {
  for (const node of childrenOf(graph, 1)) {
    const op = childrenOf(node, 4).toString()
    counts.set(op, (counts.get(op) ?? 0) + 1)
    for (const attribute of childrenOf(node, 5)) {
      for (const branch of childrenOf(attribute, 6)) operatorsIn(branch, counts)
    }
  }
  return counts
}

/** The operators that the optimiser makes of a graph, by their names. */
async function optimised(graph: Graph, blobsDir: string): Promise<Counts> {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'optimised.onnx')
  const session = await InferenceSession.create(encodeModel(graph), {
    graphOptimizationLevel: 'all',
    optimizedModelFilePath: path,
    // It says that such a file is for this processor only.
    logSeverityLevel: 3,
    extra: { session: { model_external_initializers_file_folder_path: blobsDir } }
  })
  await session.release()
  const [whole] = childrenOf(await readFile(path), 7)
  return operatorsIn(whole!)
}

it.each(Object.entries(CASES))(
  'leaves the optimiser nothing to fuse, and nothing twice: %s',
  async (_, options) => {
    await using model = await randomModel({ ...options, shape: { ...options.shape, contextLength: 4096 } })
    const { manifest, blobsDir } = model
    for (const lanes of [1, 2]) {
      const graph = shardGraph(manifest, [0, manifest.layers.length], { lanes, groupsHeads: true })
      expect(ofConstants(graph)).toEqual([])
      const written = operatorsOf(graph)
      const found = await optimised(graph, blobsDir)
      const made = [...found].filter(([op, count]) => count > (written.get(op) ?? 0))
      expect(made).toEqual([])
      const twice = [...written].map(([op, count]) => count - (found.get(op) ?? 0))
      expect(twice.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(MOST_TWICE * lanes)
    }
  }
)
