// A simulated day: `npm run churn:day -- --hours 24 --seed 1`. The test of test/node/source/churn.test.ts at that length; its
// clock is one that only the test runner can stop. Status 1 where anything was not as it must be, with what had happened before.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const USAGE = 'usage: npm run churn:day -- [--hours N] [--seed S]\n'

try {
  const { values } = parseArgs({
    options: { hours: { type: 'string', default: '24' }, seed: { type: 'string', default: '1' } }
  })
  for (const [name, value] of Object.entries(values)) {
    if (!/^\d{1,9}(\.\d+)?$/.test(value)) throw new Error(`--${name} ${value} is not a number`)
  }
  const { hours, seed } = values
  const args = [
    'vitest',
    'run',
    '--config',
    'test/vitest.config.ts',
    'test/node/source/churn.test.ts',
    '--testTimeout',
    '0'
  ]
  const env = { ...process.env, EDGESHARD_CHURN_HOURS: hours, EDGESHARD_CHURN_SEED: seed }
  const [code] = (await once(spawn('npx', args, { cwd: ROOT, stdio: 'inherit', env }), 'exit')) as [
    number | null
  ]
  process.exitCode = code ?? 1
} catch (error) {
  process.stderr.write(`churn:day: ${(error as Error).message}\n${USAGE}`)
  process.exitCode = 2
}
