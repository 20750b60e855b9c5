import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { expect, it } from 'vitest'
import { linesOf } from '../../../node/client/lines.ts'

async function collect(body: ReadableStream<Uint8Array>): Promise<string[]> {
  const lines: string[] = []
  for await (const line of linesOf(body)) lines.push(line)
  return lines
}

it('puts lines together wherever they are cut, characters too', async () => {
  const bytes = Buffer.from('one\n\ntwo é\nthree')
  for (let size = 1; size <= bytes.length; size++) {
    const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size)
    )
    const body = new Response(new Blob(chunks)).body
    expect(await collect(body!)).toEqual(['one', 'two é', 'three'])
  }
})

it('rejects when the connection breaks in the middle', async () => {
  const server = createServer(socket => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst\nsec')
      setTimeout(() => socket.destroy(), 50)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  try {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    await expect(collect(response.body!)).rejects.toThrow('terminated')
  } finally {
    server.close()
  }
})
