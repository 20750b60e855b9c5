import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { nodeEnvironment } from '../../node/demo/node-environment.ts'
import { NodeProcess } from '../../node/demo/node-process.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { until } from '../fixtures/nodes.ts'

const EDGESHARD = fileURLToPath(new URL('../../node/cli/edgeshard.mjs', import.meta.url))

/** Runs a command to its end. @throws with its last line on stderr */
export function command(args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [EDGESHARD, ...args],
      { env: nodeEnvironment(process.env), maxBuffer: 16 << 20 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else reject(new Error(stderr.trim().split('\n').at(-1) || error.message, { cause: error }))
      }
    )
  })
}

/** Nodes on some homes, each a process of its own on loopback, that all know each other; the first one is asked. */
export class Devices implements AsyncDisposable {
  readonly #nodes: NodeProcess[] = []

  /** @param memoryBytes value of `up --memory` for each; absent: as a device has it */
  static async up(homes: readonly string[], memoryBytes?: number): Promise<Devices> {
    const devices = new Devices()
    try {
      for (const [at, home] of homes.entries()) await devices.#add(home, `device-${at + 1}`, memoryBytes)
      await until(async () =>
        (await Promise.all(devices.#nodes.map(node => node.mesh()))).every(
          ({ peers }) => peers.filter(({ connected }) => connected).length === homes.length - 1
        )
      )
      return devices
    } catch (error) {
      await devices[Symbol.asyncDispose]()
      throw error
    }
  }

  get api(): string {
    return this.#nodes[0]!.api
  }

  async #add(home: string, name: string, memoryBytes: number | undefined): Promise<void> {
    const args = [
      ...['--home', home, '--name', name, '--port', '0', '--api', '127.0.0.1:0', '--no-mdns', '--no-bundled'],
      ...['--threads', '1', ...(memoryBytes === undefined ? [] : ['--memory', String(memoryBytes)])],
      ...this.#nodes.flatMap(node => ['--peer', node.addresses[0]!])
    ]
    this.#nodes.push(await NodeProcess.start(args, { readyTimeoutMs: deadlineMs(20_000) }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#nodes.map(node => node.stop()))
  }
}
