import { tmpdir } from 'node:os'
import { GraphBuilder } from '../../models/onnx/builder.ts'
import { OnnxSession, Tensor, type Threading } from '../../models/onnx/session.ts'

/** GB/s of a float32 product with one row of inputs, which reads every weight once and finds none in a cache: best of a few. */
export async function readRate(threading: Threading): Promise<number> {
  const [rows, columns] = [16384, 4096]
  const graph = new GraphBuilder()
  const x = graph.input('x', 'float32', [1, columns])
  const weights = graph.input('weights', 'float32', [rows, columns])
  graph.output('y', 'float32', [1, rows])
  graph.contrib('FusedMatMul', [x, weights], { transB: 1 }, 'y')
  const session = await OnnxSession.create(graph.build('read'), { weightsDir: tmpdir(), threading })
  const data = new Float32Array(rows * columns).fill(0.001)
  const feeds = {
    x: new Tensor('float32', new Float32Array(columns).fill(1), [1, columns]),
    weights: new Tensor('float32', data, [rows, columns])
  }
  const fetches = { y: new Tensor('float32', new Float32Array(rows), [1, rows]) }
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    await session.run(feeds, fetches)
    best = Math.min(best, performance.now() - start)
  }
  await session.release()
  return data.byteLength / 1e6 / best
}
