import { describe, expect, it } from 'vitest'
import { GraphBuilder } from '../../../models/onnx/builder.ts'
import { encodeModel } from '../../../models/onnx/model.ts'
import { ProtobufWriter } from '../../../models/onnx/protobuf.ts'
import { OnnxSession, Tensor } from '../../../models/onnx/session.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'

// These sessions are in this thread, without the runtime that sets it.
process.env.ORT_DISABLE_TELEMETRY = '1'

const hex = (writer: ProtobufWriter) => Buffer.from(writer.finish()).toString('hex')

describe('ProtobufWriter', () => {
  it("writes the examples of protobuf's own documentation", () => {
    expect(hex(new ProtobufWriter().int(1, 150))).toBe('089601')
    expect(hex(new ProtobufWriter().string(2, 'testing'))).toBe('120774657374696e67')
    expect(hex(new ProtobufWriter().message(3, new ProtobufWriter().int(1, 150)))).toBe('1a03089601')
  })

  it('writes integers up to 2^53 - 1 and fields beyond 15', () => {
    expect(hex(new ProtobufWriter().int(1, 2 ** 53 - 1))).toBe('08ffffffffffffff0f')
    expect(hex(new ProtobufWriter().int(20, 2))).toBe('a00102')
    expect(hex(new ProtobufWriter().int(1, 0))).toBe('0800')
  })

  it('writes floats little-endian', () => {
    expect(hex(new ProtobufWriter().float(2, 1))).toBe('150000803f')
  })

  it('grows', () => {
    const bytes = new Uint8Array(100_000).fill(7)
    expect(new ProtobufWriter().int(1, 1).bytes(2, bytes).finish().length).toBe(2 + 1 + 3 + 100_000)
  })

  it('refuses numbers that are no varint', () => {
    for (const value of [-1, 0.5, 2 ** 53]) {
      expect(() => new ProtobufWriter().int(1, value)).toThrow(RangeError)
    }
  })
})

describe('encodeModel', () => {
  it('gives what ONNX Runtime computes with', async () => {
    await using folder = await temporaryFolder()
    const graph = new GraphBuilder()
    const x = graph.input('x', 'float32', ['rows', 2])
    const weights = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer)
    const product = graph.onnx('MatMul', [x, graph.constant('w', 'float32', [2, 2], weights)])
    graph.onnx('LeakyRelu', [product], { alpha: { float: 0.5 } }, graph.output('y', 'float32', ['rows', 2]))
    const session = await OnnxSession.create(graph.build('test'), {
      weightsDir: folder.path,
      threading: { threads: 1, spinUs: 0 }
    })
    const y = new Float32Array(4)
    await session.run(
      { x: new Tensor('float32', Float32Array.of(1, 0, 0, -1), [2, 2]) },
      { y: new Tensor('float32', y, [2, 2]) }
    )
    await session.release()
    expect([...y]).toEqual([1, 2, -1.5, -2])
  })

  it('is the same bytes for the same graph', () => {
    const encode = () => {
      const graph = new GraphBuilder()
      graph.onnx('Neg', [graph.input('x', 'float32', ['n'])], {}, graph.output('y', 'float32', ['n']))
      return Buffer.from(encodeModel(graph.build('same'))).toString('hex')
    }
    expect(encode()).toBe(encode())
  })

  it('names the graph that ONNX Runtime refuses', async () => {
    await using folder = await temporaryFolder()
    const graph = new GraphBuilder()
    graph.onnx('NoSuchOperator', [graph.input('x', 'float32', [1])], {}, graph.output('y', 'float32', [1]))
    const created = OnnxSession.create(graph.build('layers_1_2'), {
      weightsDir: folder.path,
      threading: { threads: 1, spinUs: 0 }
    })
    await expect(created).rejects.toMatchObject({ name: 'InferenceError' })
    await expect(created).rejects.toThrow(/layers_1_2 cannot be loaded.*NoSuchOperator/s)
  })
})
