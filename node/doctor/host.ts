import { execFile } from 'node:child_process'
import { stat, statfs } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { freemem, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { messageOf } from '../../protocols/text.ts'
import { isOpenToOthers, unwritables } from '../home-folder.ts'
import { readIdentity } from '../mesh/identity.ts'
import { readMembership } from '../mesh/membership.ts'
import { signedRoll } from '../mesh/signed-roll.ts'
import { signerOf } from '../mesh/signing.ts'
import { openFiles } from '../open-files.ts'
import type { Finding } from './finding.ts'

const GIB = 2 ** 30
const LOW_DISK_BYTES = 5 * GIB
/** Weights from peers leave so much free. */
const NO_DISK_BYTES = GIB
/** What 300 peers, their streams of weights and a few hundred clients need; and what a node needs for itself. */
const FEW_OPEN_FILES = 1024
const TOO_FEW_OPEN_FILES = 128
const LOW_MEMORY_SHARE = 0.15
/** No device that runs this was switched on before; a clock behind it was never set. */
const EARLIEST_MS = Date.UTC(2026, 0, 1)
const RUNTIME_TIMEOUT_MS = 20_000

/** Damaged files, keys that others can read, a clock that was never set. */
export async function checkHome(home: string): Promise<Finding[]> {
  const findings: Finding[] = (await unwritables(home)).map(error => ({
    level: 'problem',
    check: 'home',
    found: messageOf(error)
  }))
  const isWritable = findings.length === 0
  const damaged = (error: unknown) =>
    void findings.push({ level: 'problem', check: 'home', found: messageOf(error) })
  const identity = await readIdentity(home).catch(damaged)
  const membership = await readMembership(home).catch(damaged)
  // That a new home is well would be wrong where none can be made.
  if (membership !== undefined && (membership !== null || isWritable)) {
    const found =
      membership === null
        ? `${home} is new: the first start makes a mesh of its own`
        : `${home} belongs to a mesh`
    findings.push({ level: 'ok', check: 'home', found })
  }
  if (membership && identity && !signedRoll(membership, signerOf(identity)).isIn) {
    findings.push({
      level: 'problem',
      check: 'home',
      found: 'this device is not admitted to its mesh, or is banned from it: the others do not let it in',
      advice: "on one that is, 'edgeshard invite', and here 'edgeshard join' with the ticket"
    })
  }
  for (const name of ['identity.key', 'mesh.json']) {
    const path = join(home, name)
    const mode = (await stat(path).catch(() => null))?.mode
    if (mode !== undefined && process.platform !== 'win32' && (mode & 0o077) !== 0) {
      findings.push({
        level: 'problem',
        check: 'home',
        found: `${path} can be read by others`,
        advice: `chmod 600 ${path}`
      })
    }
  }
  if (await isOpenToOthers(home)) {
    const found = `${home} can be looked into by other users of this device`
    findings.push({ level: 'note', check: 'home', found, advice: `chmod 700 ${home}` })
  }
  if (Date.now() < EARLIEST_MS) {
    const found = `the clock says ${new Date().toISOString()}`
    findings.push({
      level: 'problem',
      check: 'clock',
      found,
      advice: 'set it: tickets are good for minutes only'
    })
  }
  return findings
}

export async function checkDisk(home: string): Promise<Finding[]> {
  const { bavail, bsize } = await statfs(await existing(home))
  const free = bavail * bsize
  const found = `${(free / GIB).toFixed(1)} GiB free for ${home}`
  const advice = 'free some space, or give another --home: layers of models are kept there'
  if (free < NO_DISK_BYTES) return [{ level: 'problem', check: 'disk', found, advice }]
  return [
    free < LOW_DISK_BYTES
      ? { level: 'note', check: 'disk', found, advice }
      : { level: 'ok', check: 'disk', found }
  ]
}

export async function checkMemory(): Promise<Finding[]> {
  const [free, total] = [process.availableMemory?.() ?? freemem(), totalmem()]
  const found = `${(free / GIB).toFixed(1)} of ${(total / GIB).toFixed(1)} GiB are available`
  return [
    free < LOW_MEMORY_SHARE * total
      ? {
          level: 'note',
          check: 'memory',
          found,
          advice: 'close programs, or offer less with edgeshard up --memory'
        }
      : { level: 'ok', check: 'memory', found }
  ]
}

/** Every peer, client and file of a model takes one; the limit is that of this shell, and of what is started from it. */
export async function checkOpenFiles(): Promise<Finding[]> {
  const { limit } = openFiles()
  const check = 'open files'
  if (limit >= FEW_OPEN_FILES) {
    const found = Number.isFinite(limit)
      ? `${limit} files and connections may be open`
      : 'as many as there is room for'
    return [{ level: 'ok', check, found }]
  }
  return [
    {
      level: limit < TOO_FEW_OPEN_FILES ? 'problem' : 'note',
      check,
      found: `only ${limit} files and connections may be open at once; a node serves fewer clients at a time then`,
      advice: `raise it before edgeshard up: ulimit -n ${FEW_OPEN_FILES} (systemd: LimitNOFILE=, Docker: --ulimit nofile=)`
    }
  ]
}

/** Loads ONNX Runtime in a process of its own: where it does not fit the system, it may end the process. */
export async function checkRuntime(): Promise<Finding[]> {
  const check = 'runtime'
  const require = createRequire(import.meta.url)
  const script = `const o = require(${JSON.stringify(require.resolve('onnxruntime-node'))});
    console.log(JSON.stringify(o.listSupportedBackends().map(b => b.name)))`
  try {
    const { version } = require('onnxruntime-node/package.json') as { version: string }
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], {
      timeout: RUNTIME_TIMEOUT_MS
    })
    const providers = (JSON.parse(stdout) as string[]).join(', ')
    return [
      { level: 'ok', check, found: `ONNX Runtime ${version} with ${providers} on Node ${process.version}` }
    ]
  } catch (error) {
    const reason = (error as Error).message.split('\n').at(-1) ?? ''
    const advice =
      process.platform === 'darwin' && process.arch === 'x64'
        ? 'Intel Macs have no ONNX Runtime binary: this device can ask, but not compute'
        : 'reinstall; systems with musl (Alpine) have no binary'
    return [{ level: 'problem', check, found: `ONNX Runtime does not load: ${reason}`, advice }]
  }
}

/** The folder itself, or the first one above it that exists. */
async function existing(path: string): Promise<string> {
  const there = await stat(path).catch(() => null)
  return there !== null || dirname(path) === path ? path : existing(dirname(path))
}
