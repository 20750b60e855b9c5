/**
 * Runs the tests of projects as vitest's own command does, and a file once more whose process crashed in native code, in
 * Node or in ONNX Runtime: no assertion failed there, and nothing says what would have. Which files those were is said
 * last. A second crash fails the run, as every failure does.
 *
 *     node test/run.ts [--config FILE] PROJECT...
 */
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createVitest, type Vitest } from 'vitest/node'

/** How vitest says that the process of a file ended by itself. */
const CRASHED = /^Worker exited unexpectedly with signal (SIGSEGV|SIGBUS) .*while running test file (.+)$/

const { positionals: project, values } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string', default: fileURLToPath(new URL('vitest.config.ts', import.meta.url)) }
  }
})

const vitest = await createVitest({ config: values.config, project, watch: false })
try {
  await vitest.start()
  const crashes = crashedFiles(vitest)
  if (crashes.size > 0) {
    const { state } = vitest
    const failed = state.getTestModules().some(module => !crashes.has(module.moduleId) && !module.ok())
    const others = state.getUnhandledErrors().length - crashes.size
    const names = [...crashes]
      .map(([file, signal]) => `${relative(process.cwd(), file)} (${signal})`)
      .join(', ')
    console.log(`\nThe process crashed, so it is run once more: ${names}`)
    state.clearErrors()
    const again = await vitest.runTestSpecifications(
      [...crashes.keys()].flatMap(file => vitest.getModuleSpecifications(file))
    )
    const passed = again.unhandledErrors.length === 0 && again.testModules.every(module => module.ok())
    process.exitCode = failed || others > 0 || !passed ? 1 : 0
    console.log(`\nRun twice, as the process crashed: ${names}`)
  }
} finally {
  await vitest.close()
}

/** Files whose process crashed, each with the signal. */
function crashedFiles({ state }: Vitest): Map<string, string> {
  const crashes = new Map<string, string>()
  for (const error of state.getUnhandledErrors()) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
    const [, signal, file] = CRASHED.exec(cause) ?? []
    if (signal !== undefined && file !== undefined) crashes.set(file, signal)
  }
  return crashes
}
