/**
 * The tests whose numbers depend on a processor's kernels, natively and on processors that QEMU emulates, and what each
 * makes of the perplexity of three models.
 *
 *     npm run test:processors [-- haswell nehalem arm64] [--perplexity-only] [--tests test/parity/products.test.ts]
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { commandOptions } from '../fixtures/command-options.ts'
import { PREPARED } from '../fixtures/prepared.ts'
import { EMULATED, EMULATOR, emulator, missing, PROCESSORS } from './emulated.ts'
import { processorKind } from './kind.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { positionals, values } = commandOptions(import.meta.url, {
  allowPositionals: true,
  options: { 'perplexity-only': { type: 'boolean' }, tests: { type: 'string', multiple: true } }
})
const chosen = PROCESSORS.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
const folder = await mkdtemp(join(tmpdir(), 'edgeshard-processors-'))
let failed = false

/** Runs the tests and the perplexities; a native run, which comes first, prepares for the emulated ones. */
function run(title: string, node: string, env: Record<string, string>): void {
  console.log(`\n== ${title}`)
  const options = {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, [PREPARED]: folder, ...env }
  } as const
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/processors/vitest.config.ts']
  const succeeds = (command: string, args: string[]) => spawnSync(command, args, options).status === 0
  const tested = values['perplexity-only'] || succeeds(process.execPath, [...vitest, ...(values.tests ?? [])])
  const measured = succeeds(node, ['test/processors/perplexity.ts'])
  failed ||= !tested || !measured
}

try {
  run(`native: ${processorKind()}`, process.execPath, {})
  for (const processor of chosen) {
    const why = missing(processor)
    if (why !== undefined) {
      console.log(`\n== ${processor.name}: skipped, ${why}`)
      continue
    }
    const node = await emulator(processor)
    run(`${processor.name}, emulated`, node, { [EMULATOR]: node, [EMULATED]: processor.name })
    await rm(dirname(node), { recursive: true })
  }
} finally {
  await rm(folder, { recursive: true })
}
process.exit(failed ? 1 : 0)
