import { startHttpServer } from '../http/index.ts'
import { createNode } from '../index.ts'
import { type LogSettings, startLogs } from '../log.ts'
import type { DeviceChoice } from '../processor/choices.ts'

/**
 * Starts a node in this process for the time of one command, where no node runs on the home yet. It finds its peers
 * as any node does; a model that does not fit here waits a few seconds for them.
 */
export async function startEphemeralNode({
  home,
  model,
  device,
  signal,
  onNotice,
  log = {}
}: {
  home: string
  /** What is going to be prompted; absent: the default model. */
  model?: string | undefined
  /** What computes layers. @default 'cpu' */
  device?: DeviceChoice | undefined
  signal?: AbortSignal
  onNotice?: (message: string) => void
  log?: LogSettings
}): Promise<{ api: string; stop(): Promise<void> }> {
  startLogs(log)
  const init = { home, port: 0, firstPrompt: { model }, ...(device !== undefined && { device }) }
  const node = await createNode({ ...init, ...(onNotice === undefined ? {} : { onNotice }) })
  try {
    signal?.throwIfAborted()
    const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    return {
      api: server.url,
      stop: async () => {
        await server.stop()
        await node.stop()
      }
    }
  } catch (error) {
    await node.stop()
    throw error
  }
}
