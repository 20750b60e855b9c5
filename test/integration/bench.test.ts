import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { BenchReport } from '../../node/bench/types.ts'
import { edgeshard } from '../../node/demo/node-process.ts'
import { startHttpServer } from '../../node/http/index.ts'
import { Nodes } from '../fixtures/nodes.ts'

test('bench measures a mesh of two and says what does not fit', async () => {
  await using nodes = new Nodes()
  const [a, b] = await nodes.mesh(['a', 'b'], 0.9)
  const server = await startHttpServer({ node: a!, host: '127.0.0.1', port: 0 })
  try {
    const svg = join(await nodes.home(), 'svg')
    const workload = ['--prompt-tokens', '12', '--new-tokens', '8', '--repeats', '1', '--batch', '2']
    const methods = ['--methods', 'edgeshard,edge-solo,cloud-edge-even', '--cloud', 'b', '--svg', svg]
    const text = await edgeshard(['bench', '--json', '--api', server.url, ...workload, ...methods])
    const { source, cloud, model, rows } = JSON.parse(text) as BenchReport
    expect({ source, cloud, model }).toEqual({
      source: a!.peerId,
      cloud: b!.peerId,
      model: 'edgeshard-tiny'
    })
    // Three of latency, then two strategies each.
    expect(rows.map(({ method, objective, strategy }) => [method, objective, strategy])).toEqual([
      ...['edgeshard', 'edge-solo', 'cloud-edge-even'].map(method => [method, 'latency', null]),
      ...['edgeshard', 'edge-solo', 'cloud-edge-even'].flatMap(method =>
        ['no-bubble', 'bubble'].map(strategy => [method, 'throughput', strategy])
      )
    ])
    for (const row of rows) {
      if (row.method === 'edge-solo') {
        expect(row).toMatchObject({ outcome: 'infeasible', reason: expect.stringContaining('a needs') })
      } else if (row.outcome === 'measured') {
        expect(row.stages.map(({ name }) => name).slice(0, 2)).toEqual(['a', 'b'])
        expect(row.stages.every(({ busy }) => busy > 0 && busy < 1)).toBe(true)
        expect(row.batch).toBe(row.objective === 'latency' ? 1 : 2)
        expect(row.tokensPerSecond.median).toBeGreaterThan(0)
        expect(row.ratio.tpot).toBeCloseTo(row.predicted.tpotMs / row.tpotMs.median)
        expect(row.recoveries).toBe(0)
      }
    }
    expect(rows.find(row => row.method === 'cloud-edge-even')).toMatchObject({ outcome: 'measured' })
    expect(rows.find(row => row.method === 'edgeshard')).toMatchObject({ outcome: 'measured' })
    expect(await readdir(svg)).toEqual(['latency.svg', 'throughput.svg'])
  } finally {
    await server.stop()
  }
})
