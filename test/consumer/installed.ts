import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

/** What a program that uses the package needs besides: no other development dependency may be in reach. */
const TOOLS = ['typescript', '@types/node']

const TSCONFIG = {
  compilerOptions: {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
    module: 'nodenext',
    target: 'es2024',
    lib: ['es2024', 'esnext.disposable'],
    types: ['node']
  }
}

/**
 * The package as `npm pack` makes it, in a project elsewhere. Its dependencies are links to the ones of the checkout,
 * and only those that package.json names: one that is missing there is missing here.
 */
export class Installed implements AsyncDisposable {
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  static async pack(): Promise<Installed> {
    const dir = await mkdtemp(join(tmpdir(), 'edgeshard-consumer-'))
    try {
      const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
      const packed = await run(npm, ['pack', '--json', '--silent', '--pack-destination', dir], {
        cwd: ROOT,
        shell: process.platform === 'win32'
      })
      const [{ filename }] = JSON.parse(packed.stdout)
      const modules = join(dir, 'node_modules')
      await mkdir(modules)
      // tar's own folder in it is called package.
      await run('tar', ['-xzf', join(dir, filename), '-C', modules])
      const own = join(modules, 'edgeshard')
      await rename(join(modules, 'package'), own)
      const { dependencies } = JSON.parse(await readFile(join(own, 'package.json'), 'utf8'))
      for (const name of [...Object.keys(dependencies), ...TOOLS]) {
        await mkdir(dirname(join(modules, name)), { recursive: true })
        await symlink(join(ROOT, 'node_modules', name), join(modules, name), 'junction')
      }
      await writeFile(join(dir, 'package.json'), JSON.stringify({ type: 'module', private: true }))
      return new Installed(dir)
    } catch (error) {
      await rm(dir, { recursive: true, force: true })
      throw error
    }
  }

  async write(file: string, text: string): Promise<void> {
    await writeFile(join(this.dir, file), text)
  }

  /** What `tsc --strict` says of files of the project: nothing where they are right. */
  async compile(files: string[], options: Record<string, unknown> = {}): Promise<string> {
    const compilerOptions = { ...TSCONFIG.compilerOptions, ...options }
    await this.write('tsconfig.json', JSON.stringify({ compilerOptions, files }))
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
    return await run(process.execPath, [tsc, '-p', this.dir], { cwd: this.dir }).then(
      ({ stdout }) => stdout,
      (error: { stdout: string; stderr: string }) => `${error.stdout}${error.stderr}` || String(error)
    )
  }

  /** Runs a program of the project; its exit status and what it printed. */
  async run(
    file: string,
    node = process.execPath
  ): Promise<{ status: number; stdout: string; stderr: string }> {
    const options = { cwd: this.dir, env: { ...process.env, EDGESHARD_API_KEY: undefined } }
    return await run(node, [join(this.dir, file)], options as object).then(
      ({ stdout, stderr }) => ({ status: 0, stdout: String(stdout), stderr: String(stderr) }),
      (error: { code: number; stdout: string; stderr: string }) => ({
        status: error.code,
        stdout: error.stdout,
        stderr: error.stderr
      })
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true })
  }
}
