import { Command, Option } from 'commander'
import type { Speculate } from '../../api.ts'
import { newApiToken, writeApiFile } from '../../api-file.ts'
import { AuditLog } from '../../http/audit-log.ts'
import { createNode, type EdgeNode } from '../../index.ts'
import { startLogs } from '../../log.ts'
import type { DeviceChoice } from '../../processor/choices.ts'
import { type ApiKeyOptions, addApiKeyOptions } from '../api-key.ts'
import { apiKeysOf } from '../api-keys.ts'
import { type ApiServer, plainHttpNotice, startApiServer, tlsOf } from '../api-server.ts'
import { InputError } from '../errors.ts'
import { clean } from '../format.ts'
import { homeDir } from '../home.ts'
import { stopSignals } from '../interrupt.ts'
import {
  addLogOptions,
  addressOption,
  bytesOption,
  bytesOrNoneOption,
  collect,
  deviceOption,
  durationOption,
  integerOption,
  type LogOptions,
  speculateOption
} from '../options.ts'
import { addSettings } from '../settings.ts'

interface UpOptions extends LogOptions, ApiKeyOptions {
  home?: string
  name?: string
  port?: number
  api: { host: string; port: number }
  allowOrigin: string[]
  allowHost: string[]
  tlsCert?: string
  tlsKey?: string
  memory?: number
  prefixCache?: number
  prefixCacheDisk?: number
  prefetch?: number
  threads?: number
  device?: DeviceChoice
  gpuMemory?: number
  verify?: number
  peer: string[]
  mdns: boolean
  bundled?: boolean
  keepAlive?: number
  speculate?: Speculate
  draft?: string
  exact?: boolean
  standby?: boolean
  drain: number
  auditLog?: string
  auditSize?: number
  json?: boolean
}

/** Managers of services and of containers wait 10 s before they kill one. */
const DEFAULT_DRAIN_S = 8
const DEFAULT_AUDIT_BYTES = 160 * 2 ** 20

/** `edgeshard up`: this device's node, until it is told to stop. */
export function upCommand(): Command {
  const command = new Command('up')
    .description("Run this device's node: find the others, serve layers to them, answer prompts.")
    .option(
      '--home <dir>',
      'where keys, settings and models live (default: $EDGESHARD_HOME, else the data directory)'
    )
    .option('--name <name>', 'what the others call this device (default: its host name)')
    .option('--port <port>', 'TCP port for peers; 0 or a taken port: a free one', integerOption(0, 65535))
    .addOption(
      new Option('--api <host:port>', 'HTTP address; any but loopback needs an API key')
        .argParser(addressOption)
        .default({ host: '127.0.0.1', port: 7447 }, '127.0.0.1:7447')
    )
    .option(
      '--allow-origin <origin>',
      'web pages that may use the API besides those of this device and apps, SCHEME://HOST[:PORT], * for any; repeatable',
      collect,
      []
    )
    .option(
      '--allow-host <name>',
      'name under which the API may be asked without a key besides its own and host.docker.internal, * for any; repeatable',
      collect,
      []
    )
    .option('--tls-cert <file>', 'certificate, with those of its issuers, in PEM: the API speaks HTTPS')
    .option('--tls-key <file>', 'private key of that certificate in PEM')
    .option(
      '--memory <size>',
      'budget for what stages hold (weights, KV cache, working memory), such as 4GiB',
      bytesOption
    )
    .option(
      '--prefix-cache <size>',
      'how much of --memory keeps what conversations had computed when others take their place, such as 1GiB (default: nothing)',
      bytesOption
    )
    .option(
      '--prefix-cache-disk <size>',
      'with --prefix-cache: how much of the disk takes what has no room there, enciphered, until the node ends (default: nothing)',
      bytesOption
    )
    .option(
      '--prefetch <size>',
      "disk for weights that others' answers would need here if one of their devices died, fetched while nothing runs; 0: none (default: 4GiB)",
      bytesOrNoneOption
    )
    .option('--threads <n>', 'compute threads (default: half the logical cores)', integerOption(1, 256))
    .addOption(deviceOption())
    .option(
      '--gpu-memory <size>',
      'budget for stages on the GPU, where it is less than --memory (default: 0.8 of what it was found to give)',
      bytesOption
    )
    .option(
      '--verify <n>',
      'draw tokens of one answer of n again here, when idle, where peers computed it and all its model is here; 0: never (default: 50)',
      integerOption(0, 1e9)
    )
    .option(
      '--peer <address>',
      'address of a peer to connect to, HOST:PORT or a multiaddr, again whenever nobody who answered there is connected; repeatable',
      collect,
      []
    )
    .option('--no-mdns', 'do not look for peers on the local network')
    .option('--no-bundled', 'do not put the bundled model into the store')
    .option('--bundled', 'put it there also where it was removed')
    .addOption(
      new Option(
        '--keep-alive <time>',
        'how long a model stays loaded without prompts, such as 5m; 0: not at all (default: until its memory is needed)'
      )
        .env('EDGESHARD_KEEP_ALIVE')
        .argParser(durationOption)
    )
    .addOption(speculateOption('off'))
    .option(
      '--draft <name>',
      'model that drafts, by name or id (default: one of the same vocabulary, if there is any)'
    )
    .option(
      '--exact',
      'answers are the same to the bit on devices of one kind, whatever else these compute, unless a request says otherwise; slower ' +
        'for a single answer'
    )
    .option(
      '--standby',
      'other devices, where they have the memory, draw answers too, and go on with them at once if one of their own dies, unless a ' +
        'request says otherwise'
    )
    .option(
      '--drain <seconds>',
      'how long answers under way may take to end when it is told to stop; a second signal ends them at once',
      integerOption(0, 3600),
      DEFAULT_DRAIN_S
    )
    .option(
      '--audit-log <file>',
      'write a line of JSON for every answer over HTTP: when, from where, key, model, tokens and devices, nothing of the text'
    )
    .option(
      '--audit-size <size>',
      'what that file and the nine before it, FILE.1 to FILE.9, may take together; the oldest goes (default: 160MiB)',
      bytesOption
    )
    .option('--json', 'one JSON event a line on stdout')
  addApiKeyOptions(
    command,
    'this node, which clients must send as a bearer token, or of several, one a line: NAME KEY [ANSWERS_AT_ONCE]'
  )
  return addSettings(addLogOptions(command, { of: 'the node', standard: 'error' })).action(up)
}

async function up(options: UpOptions): Promise<void> {
  startLogs({ level: options.logLevel, format: options.logFormat })
  const home = homeDir(options.home)
  if (options.prefixCacheDisk !== undefined && options.prefixCache === undefined) {
    throw new InputError('--prefix-cache-disk takes what --prefix-cache has no room for: give both')
  }
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
      const message = `stopping: ${running} answers here and ${others} sessions of other devices may take up to ${options.drain} s to end; a second signal ends them at once`
      print({ event: 'draining', running, others }, message)
    }
    const ms = options.drain * 1000
    const until = AbortSignal.any([again, AbortSignal.timeout(ms)])
    await Promise.all([server.drain(ms, { signal: again }), node.drain({ signal: until })])
  }
  // From now on: told to stop while it starts, it stops as soon as it has.
  const signals = stopSignals()
  const node = await createNode({
    home,
    mdns: options.mdns,
    peers: options.peer,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.port === undefined ? {} : { port: options.port }),
    ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
    ...(options.prefixCache === undefined ? {} : { prefixCacheBytes: options.prefixCache }),
    ...(options.prefixCacheDisk === undefined ? {} : { prefixCacheDiskBytes: options.prefixCacheDisk }),
    ...(options.prefetch === undefined ? {} : { prefetchBytes: options.prefetch }),
    ...(options.bundled === undefined ? {} : { bundled: options.bundled }),
    ...(options.keepAlive === undefined ? {} : { keepAliveMs: options.keepAlive }),
    ...(options.speculate === undefined ? {} : { speculate: options.speculate }),
    ...(options.draft === undefined ? {} : { draft: options.draft }),
    ...(options.exact === undefined ? {} : { exact: options.exact }),
    ...(options.standby === undefined ? {} : { standby: options.standby }),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    ...(options.device === undefined ? {} : { device: options.device }),
    ...(options.gpuMemory === undefined ? {} : { gpuMemoryBytes: options.gpuMemory }),
    ...(options.verify === undefined ? {} : { verify: options.verify }),
    onPeer: ({ event, peerId, name }) =>
      print({ event, peerId, name }, `${PEER_LINES[event]} ${clean(name)} (${peerId})`),
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
      print(
        { event: 'ready', peerId: node.peerId, name: node.name, api: server.url, addresses: node.addresses },
        `${node.name} is ready: ${server.url}\npeer ${node.peerId}\n${node.addresses.map(a => `  ${a}`).join('\n')}`
      )
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

const PEER_LINES = {
  'peer:connect': '+ connected:',
  'peer:disconnect': '- gone:',
  'peer:suspect': '? silent, answers go round it:',
  'peer:recovered': '! speaks again:'
} as const

/** Hours to milliseconds, in this device's time. */
function clock(at: Date): string {
  const two = (value: number) => String(value).padStart(2, '0')
  const ms = String(at.getMilliseconds()).padStart(3, '0')
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${ms}`
}
