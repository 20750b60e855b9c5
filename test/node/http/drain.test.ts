import { afterEach, expect, test } from 'vitest'
import type { DrainState, EdgeNode } from '../../../node/api.ts'
import { createClient } from '../../../node/client/index.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { fakeNode } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

const TOKEN = 'token'

/** A node that is drained when `finish` is called. */
function drainingNode() {
  const over = Promise.withResolvers<boolean>()
  let draining = false
  const node: EdgeNode = {
    ...fakeNode(),
    get draining(): DrainState {
      return { draining, answers: 1, sessions: 2, sources: [], onlyHere: ['mine'] }
    },
    drain: ({ handOver }) => {
      draining = handOver === true
      return over.promise
    },
    undrain: () => {
      draining = false
      over.resolve(false)
    }
  }
  return { node, finish: () => over.resolve(true) }
}

async function serve(node: EdgeNode, onLeave?: () => void): Promise<string> {
  const server = await startHttpServer({
    node,
    host: '127.0.0.1',
    port: 0,
    token: TOKEN,
    ...(onLeave !== undefined && { onLeave })
  })
  servers.push(server)
  return server.url
}

test('a drain is begun, looked at and taken back over HTTP', async () => {
  const { node } = drainingNode()
  const client = createClient({ url: await serve(node), token: TOKEN })
  expect(await client.draining()).toMatchObject({ draining: false })
  expect(await client.drain()).toEqual({
    draining: true,
    answers: 1,
    sessions: 2,
    sources: [],
    onlyHere: ['mine']
  })
  expect(await client.draining()).toMatchObject({ draining: true })
  expect(await client.undrain()).toMatchObject({ draining: false })
})

test('the program is told to end once the node is drained, where that was asked for', async () => {
  const { node, finish } = drainingNode()
  const left = Promise.withResolvers<void>()
  const client = createClient({ url: await serve(node, left.resolve), token: TOKEN })
  await client.drain({ leave: true })
  finish()
  await left.promise
})

test('it goes on where the drain was taken back, or asked for without leaving', async () => {
  const said: string[] = []
  const taken = drainingNode()
  const client = createClient({ url: await serve(taken.node, () => said.push('left')), token: TOKEN })
  await client.drain({ leave: true })
  await client.undrain()
  const staying = drainingNode()
  const other = createClient({ url: await serve(staying.node, () => said.push('left')), token: TOKEN })
  await other.drain()
  staying.finish()
  await other.draining()
  expect(said).toEqual([])
})

test('it is power over the mesh: without the token, or from another page, it is refused', async () => {
  const url = await serve(drainingNode().node)
  const post = async (path: string, headers: Record<string, string>, body = '{}') =>
    (await fetch(url + path, { method: 'POST', body, headers })).status
  expect(await post('/api/drain', {})).toBe(401)
  expect(await post('/api/drain/undo', {})).toBe(401)
  const owner = { 'x-edgeshard-token': TOKEN }
  expect(await post('/api/drain', { ...owner, origin: 'http://localhost:3000' })).toBe(403)
  expect(await post('/api/drain', owner, '{"leav":true}')).toBe(400)
  // Nothing here could end the program.
  expect(await post('/api/drain', owner, '{"leave":true}')).toBe(400)
  expect(await post('/api/drain', owner)).toBe(200)
})
