#!/usr/bin/env node
// Starts the command line under a Node that can run it: this one, or the Node 24 binary that npm installed for the
// platform. Plain JavaScript that Node 20 understands; no install script is involved.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { asksRunningNode } from './asked-node.mjs'
import { keepCompiled, nameCompileCache } from './compile-cache.mjs'

/** What is published is compiled for Node 22; libp2p needs its Promise.withResolvers. */
const OLDEST_FOR_COMPILED = 22
/** Sources are run as they are, and `await using` is in them. */
const OLDEST_FOR_SOURCES = 24

/**
 * How glibc allocates, which it decides at its start: in huge pages, as a step reads all weights and does so 15 to 20 %
 * faster (test/bench/runtime-speed.ts), and large pieces each by itself, so that a released shard's memory goes back.
 */
const ALLOCATION = 'glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576'
/** Commands that may hold weights, unless they ask a node that does; the others are spared the second start, 0.1 s of a processor. */
const COMPUTING = ['up', 'run', 'chat', 'demo', 'profile', 'bench']

/** Commands that a person waits for at a terminal: something is said before the rest is loaded. */
const SAID_AT_ONCE = ['run', 'chat', 'peers']

const here = dirname(fileURLToPath(import.meta.url))
// A checkout runs its sources; what npm installs is compiled, because Node strips no types under node_modules.
const source = join(here, 'main.ts')
const entry = existsSync(source) ? source : join(here, '../../dist/node/cli/main.js')

const oldest = entry === source ? OLDEST_FOR_SOURCES : OLDEST_FOR_COMPILED
const [major] = process.versions.node.split('.').map(Number)
if (process.argv.length === 3 && ['--version', '-V'].includes(process.argv[2])) {
  // Every Node can say that, at once.
  process.stdout.write(`${JSON.parse(readFileSync(join(here, '../../package.json'), 'utf8')).version}\n`)
} else if (major >= oldest) {
  sayStarting()
  keepCompiled()
  if (lacksAllocation()) becomeWithAllocation()
  await import(entry)
} else {
  const binary = bundledNode()
  if (binary === undefined) {
    process.stderr.write(
      `edgeshard needs Node ${oldest} or newer, this is ${process.versions.node}, and no Node was ` +
        `installed beside it for ${process.platform}-${process.arch}. Install a newer Node, or run npm install again ` +
        'without --omit=optional.\n'
    )
    process.exit(1)
  }
  sayStarting()
  nameCompileCache()
  relaunch(binary)
}

/** Says that something happens, on a line that main.ts takes away when it has more to say (starting.ts). */
function sayStarting() {
  if (process.stderr.isTTY !== true || !SAID_AT_ONCE.includes(process.argv[2])) return
  process.stderr.write(`starting, ${(performance.now() / 1000).toFixed(1)} s`)
  process.env.EDGESHARD_STARTING = '1'
}

/** The path of the Node binary that an optional dependency brought, undefined where there is none. */
function bundledNode() {
  const prefix = process.platform === 'darwin' && process.arch === 'arm64' ? 'node-bin' : 'node'
  const platform = process.platform === 'win32' ? 'win' : process.platform
  try {
    const manifest = createRequire(import.meta.url).resolve(
      `${prefix}-${platform}-${process.arch}/package.json`
    )
    const { bin } = JSON.parse(readFileSync(manifest, 'utf8'))
    const path = join(dirname(manifest), typeof bin === 'string' ? bin : bin.node)
    return existsSync(path) ? path : undefined
  } catch {
    return undefined
  }
}

/**
 * True where the allocator would have to be told, and is not. Who ties this process to itself by a channel would lose the
 * channel; its environment is its own to set.
 */
function lacksAllocation() {
  return (
    process.platform === 'linux' &&
    process.env.GLIBC_TUNABLES === undefined &&
    process.channel === undefined &&
    computes()
  )
}

/** True of a command that may hold weights in this process. */
function computes() {
  return COMPUTING.includes(process.argv[2]) && !asksRunningNode(process.argv.slice(2))
}

/** Becomes the same command line with the allocator told, if this Node can: the same process, id and terminal. */
function becomeWithAllocation() {
  const args = [process.execPath, ...process.execArgv, entry, ...process.argv.slice(2)]
  process.execve?.(process.execPath, args, { ...process.env, GLIBC_TUNABLES: ALLOCATION })
}

/** Runs the same command line under `binary`, passing signals on and ending as it ends. */
function relaunch(binary) {
  // The child watches the channel and stops when it closes, so it never outlives a killed parent (main.ts).
  const child = spawn(binary, [...process.execArgv, entry, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...(computes() && { GLIBC_TUNABLES: ALLOCATION }), ...process.env, EDGESHARD_TIED: '1' }
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    // A terminal sends Ctrl-C to the whole process group; passing it on again is harmless, the child handles it once.
    process.on(signal, () => child.kill(signal))
  }
  child.on('error', error => {
    process.stderr.write(`edgeshard could not start ${binary}: ${error.message}\n`)
    process.exit(1)
  })
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 128 + constants.signals[signal]))
}
