/**
 * What many short requests leave in a node's memory: resident bytes of its processes while they come, some at a time, two
 * of three in conversations of their own. The heap grows until it is collected, so floors are compared: the smallest of the
 * last two fifths over that of the two fifths before.
 *
 * Every answer is a stream, so that it also says how many of them a node gives at once: beside --at-once 4 the same with 64.
 *
 *     npm run bench:requests -- [--requests 10000] [--at-once 4] [--tokens 2]
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { residentBytes } from '../chaos/process-state.ts'
import { commandOptions } from '../fixtures/command-options.ts'

const SAMPLES = 50

const { values } = commandOptions(import.meta.url, {
  options: {
    requests: { type: 'string', default: '10000' },
    'at-once': { type: 'string', default: '4' },
    tokens: { type: 'string', default: '2' }
  }
})
const [requests, atOnce, tokens] = [values.requests, values['at-once'], values.tokens].map(Number) as [
  number,
  number,
  number
]
const home = await mkdtemp(join(tmpdir(), 'edgeshard-requests-'))
const node = await NodeProcess.start(['--home', home, '--no-mdns', '--port', '0', '--api', '127.0.0.1:0'])
try {
  let asked = 0
  const refused: number[] = []
  const resident: { requests: number; bytes: number }[] = []
  const ask = async (): Promise<void> => {
    while (asked < requests) {
      const number = asked++
      const { status } = await complete(node.api, number)
      if (status !== 200) refused.push(status)
      if (number % Math.ceil(requests / SAMPLES) === 0) {
        resident.push({ requests: number, bytes: residentBytes(node.pid) })
        console.log(`${number} requests: ${(resident.at(-1)!.bytes / 2 ** 20).toFixed(0)} MiB resident`)
      }
    }
  }
  const startMs = performance.now()
  await Promise.all(Array.from({ length: atOnce }, ask))
  const seconds = (performance.now() - startMs) / 1000
  const floor = (from: number, to: number) =>
    Math.min(...resident.filter(one => one.requests >= from && one.requests < to).map(({ bytes }) => bytes))
  const ratio = floor(0.6 * requests, requests) / floor(0.2 * requests, 0.6 * requests)
  console.log(
    `${requests} streams, ${atOnce} at once, in ${seconds.toFixed(0)} s, ${(requests / seconds).toFixed(1)} a second, ${refused.length} not answered; floors: ${ratio.toFixed(3)}`
  )
} finally {
  await node.stop()
  await rm(home, { recursive: true, force: true })
}

async function complete(api: string, number: number): Promise<{ status: number }> {
  const response = await fetch(`${api}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      messages: [{ role: 'user', content: `hello ${number}` }],
      max_tokens: tokens,
      stream: true,
      ...(number % 3 === 0 ? {} : { user: `u${number}` })
    })
  })
  await response.text()
  return response
}
