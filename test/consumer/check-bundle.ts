/**
 * `npm run bundle:check -- FILE...`: looks into bundles of any platform without running them. Every program and library in
 * one is for its platform; a Node and an ONNX Runtime are among them; npm installs it for that platform without a network.
 * Prints its bytes; ends with status 1 where something is missing, or too much.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, relative, resolve } from 'node:path'
import { PLATFORMS, type Platform } from './bundle.ts'
import { platformsOf } from './executables.ts'

const MB = 1e6
const HEAD_BYTES = 4096

interface Program {
  path: string
  platforms: string[]
}

function filesIn(dir: string): { path: string; bytes: number }[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .map(path => ({ path, bytes: statSync(path).size }))
}

function headOf(path: string): Buffer {
  const file = openSync(path, 'r')
  try {
    const head = Buffer.alloc(HEAD_BYTES)
    return head.subarray(0, readSync(file, head, 0, HEAD_BYTES, 0))
  } finally {
    closeSync(file)
  }
}

/** What is wrong with the programs in a bundle. */
function faultsOf(programs: readonly Program[], { name, node }: Platform): string[] {
  const others = programs.filter(({ platforms }) => !platforms.includes(name))
  const has = (part: string) => programs.some(({ path }) => path.startsWith(`node_modules/${part}/`))
  return [
    ...others.map(({ path, platforms }) => `${path} is for ${platforms.join(', ')}`),
    ...[node, 'onnxruntime-node']
      .filter(part => !has(part))
      .map(part => `there is no program of ${part} in it`)
  ]
}

/** What npm says against installing it for its platform; nothing where it does, with nothing but loopback. */
function refusalOf(file: string, { os, cpu }: Platform, work: string): string {
  const project = join(work, 'project')
  mkdirSync(project)
  const libc = os === 'linux' ? ['--libc=glibc'] : []
  // Of all checks this passes over one: that the package is for this machine, which npm makes of a file whatever --os says.
  const foreign = os === process.platform && cpu === process.arch ? [] : ['--force']
  const options = ['--no-audit', '--no-fund', ...foreign, `--os=${os}`, `--cpu=${cpu}`, ...libc]
  const npm = ['npm', 'install', ...options, file]
  const { status, stdout, stderr } = spawnSync('unshare', ['--net', ...npm], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, npm_config_cache: join(work, 'cache') }
  })
  return status === 0 ? '' : `npm install failed (${status}): ${stdout}${stderr}`
}

function check(file: string): string[] {
  const platform = PLATFORMS.find(({ name }) => basename(file).endsWith(`-${name}.tgz`))
  if (platform === undefined) return ['its name says no platform']
  const work = mkdtempSync(join(tmpdir(), 'edgeshard-check-'))
  try {
    execFileSync('tar', ['-xzf', file, '-C', work])
    const dir = join(work, basename(file, '.tgz'))
    const files = filesIn(dir)
    const programs = files
      .map(({ path }) => ({ path: relative(dir, path), platforms: platformsOf(headOf(path)) }))
      .filter(({ platforms }) => platforms.length > 0)
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
    process.stdout.write(
      `${basename(file)}: ${Math.round(statSync(file).size / MB)} MB, unpacked ${Math.round(bytes / MB)} MB, ${programs.length} programs and libraries\n`
    )
    for (const { path } of programs) process.stdout.write(`  ${path}\n`)
    const startMs = performance.now()
    const refusal = refusalOf(file, platform, work)
    if (refusal === '') {
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
      process.stdout.write(`  npm installs it for ${platform.name} without a network: ${seconds} s\n`)
    }
    return [...faultsOf(programs, platform), ...(refusal === '' ? [] : [refusal])]
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

const given = process.argv.slice(2)
if (given.length === 0) throw new Error('give the files that `npm run bundle -- --platform NAME` has made')
for (const file of given) {
  for (const fault of check(resolve(file))) {
    process.stdout.write(`  WRONG: ${fault}\n`)
    process.exitCode = 1
  }
}
