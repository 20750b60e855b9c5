import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { expect, it, vi } from 'vitest'
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

it('reads nothing for as long as it is told behind what it waited for, then all that has come', async () => {
  vi.useFakeTimers()
  try {
    const come: string[] = []
    let wake = () => {}
    const pull = async (controller: ReadableStreamDefaultController<Uint8Array>) => {
      while (come.length === 0) await new Promise<void>(resolve => (wake = resolve))
      controller.enqueue(Buffer.from(`${come.shift()}\n`))
    }
    const comes = (...lines: string[]) => {
      come.push(...lines)
      wake()
    }
    const read: string[] = []
    const reading = (async () => {
      const body = new ReadableStream<Uint8Array>({ pull }, { highWaterMark: 0 })
      for await (const line of linesOf(body, { gatherMs: 100 })) if (read.push(line) === 5) break
    })()
    await vi.advanceTimersByTimeAsync(10)
    comes('one')
    await vi.advanceTimersByTimeAsync(1)
    expect(read).toEqual(['one'])
    comes('two', 'three')
    await vi.advanceTimersByTimeAsync(90)
    expect(read).toEqual(['one'])
    await vi.advanceTimersByTimeAsync(10)
    expect(read).toEqual(['one', 'two', 'three'])
    await vi.advanceTimersByTimeAsync(500)
    comes('four')
    await vi.advanceTimersByTimeAsync(1)
    expect(read).toEqual(['one', 'two', 'three', 'four'])
    comes('five')
    await vi.advanceTimersByTimeAsync(100)
    await reading
  } finally {
    vi.useRealTimers()
  }
})

it('ends at once when the connection does, within a pause too', async () => {
  vi.useFakeTimers()
  try {
    let body!: ReadableStreamDefaultController<Uint8Array>
    const stream = new ReadableStream<Uint8Array>({ start: controller => void (body = controller) })
    const read: string[] = []
    let outcome = ''
    void (async () => {
      for await (const line of linesOf(stream, { gatherMs: 3_600_000 })) read.push(line)
    })().catch((error: Error) => {
      outcome = error.message
    })
    await vi.advanceTimersByTimeAsync(10)
    body.enqueue(Buffer.from('one\n'))
    await vi.waitFor(() => expect(read).toEqual(['one']))
    body.error(new Error('left'))
    await vi.waitFor(() => expect(outcome).toBe('left'))
  } finally {
    vi.useRealTimers()
  }
})
