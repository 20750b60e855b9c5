import { Command } from 'commander'
import { newApiToken, writeApiFile } from '../../api-file.ts'
import { DEFAULT_PORT } from '../../constants.ts'
import { AuditLog } from '../../http/audit-log.ts'
import { createNode, type EdgeNode } from '../../index.ts'
import { startLogs } from '../../log.ts'
import { counted } from '../../units.ts'
import { apiKeysOf } from '../api-keys.ts'
import { type ApiServer, plainHttpNotice, startApiServer, tlsOf } from '../api-server.ts'
import { InputError } from '../errors.ts'
import { clean } from '../format.ts'
import { stopSignals } from '../interrupt.ts'
import { addSettings } from '../settings.ts'
import { takenPorts } from '../taken-ports.ts'
import { peerLine, readyLines } from '../up-lines.ts'
import { addUpOptions, nodeInitOf, type UpOptions } from '../up-options.ts'

const DEFAULT_AUDIT_BYTES = 160 * 2 ** 20

/** `edgeshard up`: this device's node, until it is told to stop. */
export function upCommand(): Command {
  const command = new Command('up').description(
    "Run this device's node: find the others, serve layers to them, answer prompts."
  )
  return addSettings(addUpOptions(command)).action(up)
}

async function up(options: UpOptions): Promise<void> {
  startLogs({ level: options.logLevel, format: options.logFormat })
  const init = nodeInitOf(options)
  const { home } = init
  const [apiKeys, tls] = await Promise.all([apiKeysOf(options), tlsOf(options)])
  const audit = auditOf(options)
  const print = (event: { event: string } & Record<string, unknown>, line: string) => {
    const at = new Date()
    process.stdout.write(
      `${options.json === true ? JSON.stringify({ ...event, at: at.toISOString() }) : `${clock(at)} ${line}`}\n`
    )
  }

  const drain = async (server: ApiServer, node: EdgeNode, again: AbortSignal) => {
    const { running } = server
    const others = node.mesh().leases.reduce((sum, lease) => sum + lease.sessions, 0)
    if (running + others > 0) {
      const message = `stopping: ${counted(running, 'answer')} here and ${counted(others, 'session')} of other devices may take up to ${options.drain} s to end; a second signal ends them at once`
      print({ event: 'draining', running, others }, message)
    }
    const ms = options.drain * 1000
    const until = AbortSignal.any([again, AbortSignal.timeout(ms)])
    await Promise.all([server.drain(ms, { signal: again }), node.drain({ signal: until })])
  }
  // From now on: told to stop while it starts, it stops as soon as it has.
  const signals = stopSignals()
  const node = await createNode({
    ...init,
    onPeer: peer => print({ ...peer }, peerLine(peer)),
    onNotice: message => print({ event: 'notice', message }, clean(message))
  })
  const token = newApiToken()
  const left = Promise.withResolvers<void>()
  try {
    const server = await startApiServer({
      node,
      token,
      ...options.api,
      allowOrigins: options.allowOrigin,
      allowHosts: options.allowHost,
      apiKeys,
      ...(audit === undefined ? {} : { audit }),
      onLeave: () => {
        print({ event: 'drained' }, 'drained: nothing runs here any more; the node leaves the mesh')
        left.resolve()
      },
      ...(tls === undefined ? {} : { tls })
    })
    try {
      const forget = await writeApiFile(home, { api: server.ownUrl, token })
      const message = plainHttpNotice(options.api.host, server.url)
      if (message !== undefined) print({ event: 'notice', message }, message)
      const { peerId, name, addresses } = node
      const alone = node.membership.state.devices.length === 1
      print(
        { event: 'ready', peerId, name, api: server.url, addresses },
        readyLines({ name, url: server.url, peerId, addresses, alone, home })
      )
      const wanted = { api: options.api, port: init.port ?? DEFAULT_PORT }
      for (const taken of await takenPorts({ wanted, url: server.url, addresses }))
        print({ event: 'notice', message: taken }, taken)
      await Promise.race([signals.first, left.promise])
      await drain(server, node, signals.again)
      await forget()
    } finally {
      await server.stop()
    }
  } finally {
    await node.stop()
    audit?.close()
  }
}

/** @throws {InputError} where the file cannot be written */
function auditOf({ auditLog, auditSize = DEFAULT_AUDIT_BYTES }: UpOptions): AuditLog | undefined {
  if (auditLog === undefined) return undefined
  try {
    return new AuditLog(auditLog, { totalBytes: auditSize })
  } catch (error) {
    throw new InputError(`the audit log cannot be written: ${(error as Error).message}`, { cause: error })
  }
}

/** Hours to milliseconds, in this device's time. */
function clock(at: Date): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const ms = String(at.getMilliseconds()).padStart(3, '0')
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`
}
