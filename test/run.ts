/**
 * Runs the tests of projects as vitest's own command does, and a file once more whose process crashed in native code, in
 * Node or in ONNX Runtime: no assertion failed there, and nothing says what would have. Which files those were, during
 * which test, and what Node wrote of it is said last. A second crash fails the run, as every failure does.
 *
 *     node test/run.ts [--config FILE] PROJECT...
 */
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { createVitest, type TestModule, type Vitest } from 'vitest/node'
import { FatalErrors } from './fatal-errors.ts'

/** How vitest says that the process of a file ended by itself: by a fault, or by a check of V8 or of a library that failed. */
const CRASHED =
  /^Worker exited unexpectedly with signal (SIGSEGV|SIGBUS|SIGILL|SIGTRAP|SIGABRT) .*while running test file (.+)$/

const { positionals: project, values } = parseArgs({
  allowPositionals: true,
  options: {
    config: { type: 'string', default: fileURLToPath(new URL('vitest.config.ts', import.meta.url)) }
  }
})

const fatalErrors = new FatalErrors(process.stderr)
const vitest = await createVitest(
  { config: values.config, project, watch: false },
  {},
  { stderr: fatalErrors }
)
try {
  await vitest.start()
  const crashes = crashedFiles(vitest)
  if (crashes.size > 0) {
    const { state } = vitest
    const failed = state.getTestModules().some(module => !crashes.has(module.moduleId) && !module.ok())
    const others = state.getUnhandledErrors().length - crashes.size
    const names = [...crashes].map(([file, { signal, test }]) => {
      const during = test === undefined ? '' : ` in "${test}"`
      return `${relative(process.cwd(), file)} (${signal}${during})`
    })
    console.log(`\nThe process crashed, so it is run once more: ${names.join(', ')}`)
    state.clearErrors()
    const again = await vitest.runTestSpecifications(
      [...crashes.keys()].flatMap(file => vitest.getModuleSpecifications(file))
    )
    const passed = again.unhandledErrors.length === 0 && again.testModules.every(module => module.ok())
    process.exitCode = failed || others > 0 || !passed ? 1 : 0
    for (const line of fatalErrors.lines) console.log(line)
    console.log(`\nRun twice, as the process crashed: ${names.join(', ')}`)
  }
} finally {
  await vitest.close()
}

interface Crash {
  signal: string
  /** The first test that had not ended, undefined where vitest had heard of none. */
  test: string | undefined
}

/** Files whose process crashed. */
function crashedFiles({ state }: Vitest): Map<string, Crash> {
  const crashes = new Map<string, Crash>()
  for (const error of state.getUnhandledErrors()) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : ''
    const [, signal, file] = CRASHED.exec(cause) ?? []
    if (signal === undefined || file === undefined) continue
    const module = state.getTestModules().find(({ moduleId }) => moduleId === file)
    crashes.set(file, { signal, test: module && runningTest(module) })
  }
  return crashes
}

function runningTest(module: TestModule): string | undefined {
  for (const test of module.children.allTests()) if (test.result().state === 'pending') return test.fullName
  return undefined
}
