import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'

const MAIN = fileURLToPath(new URL('../../../node/cli/edgeshard.mjs', import.meta.url))

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let holder: Server
let port: number
beforeEach(async () => {
  folder = await temporaryFolder()
  holder = createServer(socket => socket.destroy()).listen(0)
  await once(holder, 'listening')
  port = (holder.address() as AddressInfo).port
})
afterEach(async () => {
  holder.close()
  await folder[Symbol.asyncDispose]()
})

/** `up` in a home of its own, which has to end by itself. */
function up(args: string[], env: Record<string, string> = {}) {
  const where = ['--home', join(folder.path, 'home'), '--no-mdns', '--no-bundled', ...args]
  const options = { env: { ...process.env, ...env }, timeout: deadlineMs(40_000) }
  return new Promise<{ status: unknown; stderr: string }>(resolve => {
    execFile(process.execPath, [MAIN, 'up', ...where], options, (error, _, stderr) =>
      resolve({ status: error === null ? 0 : error.code, stderr })
    )
  })
}

test('a port that was asked for is that one or an error, by option, environment and file', {
  timeout: deadlineMs(120_000)
}, async () => {
  const api = `127.0.0.1:${port}`
  const says = {
    status: 1,
    stderr: expect.stringContaining(`edgeshard: ${api}, which was asked for, is taken by another program`)
  }
  expect(await up(['--port', '0', '--api', api])).toEqual(says)
  expect(await up(['--port', '0'], { EDGESHARD_API: api })).toEqual(says)
  const config = join(folder.path, 'config.json')
  await writeFile(config, JSON.stringify({ api, port: 0 }))
  expect(await up(['--config', config])).toEqual(says)
  expect(await up(['--api', '127.0.0.1:0', '--port', String(port)])).toEqual({
    status: 1,
    stderr: expect.stringContaining(`edgeshard: TCP port ${port}, which was asked for, is taken by`)
  })
})
