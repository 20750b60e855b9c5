/**
 * `npm run bundle:try -- FILE`: installs a bundle in a network namespace that has nothing but loopback, by npm and by
 * unpacking it where there is neither npm nor Node, prompts it both ways, and prints what each took. On Linux, where
 * namespaces are permitted.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'

const MB = 1e6
/** What the starter of an unpacked bundle asks a system for. */
const TOOLS = ['sh', 'dirname', 'readlink']
const PROMPT = ['run', 'What does a thermostat do?', '--max-tokens', '20', '--temperature', '0']

interface Step {
  name: string
  command: string[]
  cwd: string
  path?: string
}

function inNoNetwork({ name, command, cwd, path = process.env.PATH! }: Step): string {
  const script = 'ip link set lo up && PATH="$1" && shift && exec "$@"'
  const startMs = performance.now()
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--net', 'sh', '-c', script, 'sh', path, ...command],
    {
      cwd,
      encoding: 'utf8',
      env: { ...process.env, EDGESHARD_HOME: join(cwd, 'home'), npm_config_cache: join(cwd, 'cache') }
    }
  )
  if (status !== 0) throw new Error(`${name} failed (${status}):\n${stdout}${stderr}`)
  process.stdout.write(`${name}: ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`)
  return stdout
}

function megabytes(dir: string): string {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  const bytes = files.reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0)
  return `${Math.round(bytes / MB)} MB`
}

const [given] = process.argv.slice(2)
if (given === undefined) throw new Error('give the file that `npm run bundle` has made')
const file = resolve(given)
const work = mkdtempSync(join(tmpdir(), 'edgeshard-try-'))
try {
  process.stdout.write(`${basename(file)}: ${Math.round(statSync(file).size / MB)} MB\n`)
  const [project, unpacked, tools] = ['project', 'unpacked', 'tools'].map(name => join(work, name)) as [
    string,
    string,
    string
  ]
  for (const dir of [project, unpacked, tools]) mkdirSync(dir)
  inNoNetwork({
    name: 'npm install',
    command: ['npm', 'install', '--no-audit', '--no-fund', file],
    cwd: project
  })
  process.stdout.write(`installed by npm: ${megabytes(join(project, 'node_modules'))}\n`)
  const installed = inNoNetwork({
    name: 'npx edgeshard run',
    command: ['npx', 'edgeshard', ...PROMPT],
    cwd: project
  })

  inNoNetwork({ name: 'tar', command: ['tar', '-xzf', file], cwd: unpacked })
  const dir = join(unpacked, basename(file, '.tgz'))
  process.stdout.write(`unpacked: ${megabytes(dir)}\n`)
  for (const tool of TOOLS) symlinkSync(join('/usr/bin', tool), join(tools, tool))
  const started = join(dir, 'edgeshard')
  const ran = inNoNetwork({
    name: 'edgeshard run, without npm or Node',
    command: [started, ...PROMPT],
    cwd: unpacked,
    path: tools
  })
  if (installed !== ran || ran.trim() === '')
    throw new Error(`the two answer otherwise: ${installed} / ${ran}`)
  process.stdout.write(`both answer: ${ran}`)
} finally {
  rmSync(work, { recursive: true, force: true })
}
