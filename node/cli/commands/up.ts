import { Command, Option } from 'commander'
import { writeApiFile } from '../../api-file.ts'
import { startHttpServer } from '../../http/index.ts'
import { createNode } from '../../index.ts'
import { startLogs } from '../../log.ts'
import { clean } from '../format.ts'
import { homeDir } from '../home.ts'
import {
  addLogOptions,
  addressOption,
  bytesOption,
  collect,
  integerOption,
  type LogOptions
} from '../options.ts'

interface UpOptions extends LogOptions {
  home?: string
  name?: string
  port?: number
  api: { host: string; port: number }
  apiKey?: string
  memory?: number
  threads?: number
  peer: string[]
  mdns: boolean
  bundled: boolean
  json?: boolean
}

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
      new Option('--api <host:port>', 'HTTP address; any but loopback needs --api-key')
        .argParser(addressOption)
        .default({ host: '127.0.0.1', port: 7447 }, '127.0.0.1:7447')
    )
    .option('--api-key <key>', 'key that HTTP clients must send as a bearer token (or $EDGESHARD_API_KEY)')
    .option(
      '--memory <size>',
      'budget for what stages hold (weights, KV cache, working memory), such as 4GiB',
      bytesOption
    )
    .option('--threads <n>', 'compute threads (default: half the logical cores)', integerOption(1, 256))
    .option(
      '--peer <multiaddr>',
      'address of a peer to connect to, again whenever nobody who answered there is connected; repeatable',
      collect,
      []
    )
    .option('--no-mdns', 'do not look for peers on the local network')
    .option('--no-bundled', 'start a new store without the bundled model')
    .option('--json', 'one JSON event a line on stdout')
  return addLogOptions(command, { of: 'the node', standard: 'error' }).action(up)
}

async function up(options: UpOptions): Promise<void> {
  startLogs({ level: options.logLevel, format: options.logFormat })
  const home = homeDir(options.home)
  const apiKey = options.apiKey ?? process.env.EDGESHARD_API_KEY
  const print = (event: { event: string } & Record<string, unknown>, line: string) => {
    const at = new Date()
    process.stdout.write(
      `${options.json === true ? JSON.stringify({ ...event, at: at.toISOString() }) : `${clock(at)} ${line}`}\n`
    )
  }

  const node = await createNode({
    home,
    mdns: options.mdns,
    bundled: options.bundled,
    peers: options.peer,
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.port === undefined ? {} : { port: options.port }),
    ...(options.memory === undefined ? {} : { memoryBytes: options.memory }),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
    onPeer: ({ event, peerId, name }) =>
      print({ event, peerId, name }, `${PEER_LINES[event]} ${clean(name)} (${peerId})`),
    onNotice: message => print({ event: 'notice', message }, clean(message))
  })
  try {
    const server = await startHttpServer({
      node,
      ...options.api,
      ...(apiKey === undefined ? {} : { apiKey })
    })
    try {
      const forget = await writeApiFile(home, server.url)
      print(
        { event: 'ready', peerId: node.peerId, name: node.name, api: server.url, addresses: node.addresses },
        `${node.name} is ready: ${server.url}\npeer ${node.peerId}\n${node.addresses.map(a => `  ${a}`).join('\n')}`
      )
      await interrupted()
      await forget()
    } finally {
      await server.stop()
    }
  } finally {
    await node.stop()
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

/** Resolves at the first SIGINT, SIGTERM or SIGHUP. */
function interrupted(): Promise<void> {
  return new Promise(resolve => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve())
  })
}
