import { type Command, Option } from 'commander'
import type { Speculate } from '../api.ts'
import type { NodeInit } from '../index.ts'
import type { DeviceChoice } from '../processor/choices.ts'
import { type ApiKeyOptions, addApiKeyOptions } from './api-key.ts'
import { KEY_LINE } from './api-keys.ts'
import { InputError } from './errors.ts'
import { homeDir } from './home.ts'
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
} from './options.ts'

/** Managers of services and of containers wait 10 s before they kill one. */
const DEFAULT_DRAIN_S = 8

/** Options of `up`, as they are parsed. */
export interface UpOptions extends LogOptions, ApiKeyOptions {
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

/** Adds the options of `up`, with their help. */
export function addUpOptions(command: Command): Command {
  command
    .option(
      '--home <dir>',
      'where keys, settings and models live (default: $EDGESHARD_HOME, else the data directory)'
    )
    .option('--name <name>', 'what the others call this device (default: its host name)')
    .option('--port <port>', 'TCP port for peers; 0 or a taken port: a free one', integerOption(0, 65535))
    .addOption(
      new Option(
        '--api <host:port>',
        'HTTP address, at the next free port where that one is taken; any but loopback needs an API key'
      )
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
      'what of --memory is on the GPU, the CPU has the rest (default: 0.8 of what it was found to give)',
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
    `this node, which clients must send as a bearer token, or of several, one a line: ${KEY_LINE}`
  )
  return addLogOptions(command, { of: 'the node', standard: 'error' })
}

/**
 * The part of them that a node is started with.
 *
 * @throws {InputError} for options that say nothing without another one
 */
export function nodeInitOf(options: UpOptions): NodeInit {
  if (options.prefixCacheDisk !== undefined && options.prefixCache === undefined) {
    throw new InputError('--prefix-cache-disk takes what --prefix-cache has no room for: give both')
  }
  return {
    home: homeDir(options.home),
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
    ...(options.verify === undefined ? {} : { verify: options.verify })
  }
}
