import { expect, test } from 'vitest'
import { upCommand } from '../../../node/cli/commands/up.ts'
import { fileSettings } from '../../../node/cli/settings.ts'
import { nodeEnvironment } from '../../../node/demo/node-environment.ts'

test('a node of the demo gets no option of the node of this device but those of the log', () => {
  const variables = [...fileSettings(upCommand()).map(({ variable }) => variable), 'EDGESHARD_CONFIG']
  expect(variables).toContain('EDGESHARD_AUDIT_LOG')
  const environment = Object.fromEntries(variables.map(name => [name, '1']))
  expect(nodeEnvironment(environment)).toEqual({
    EDGESHARD_LOG_LEVEL: '1',
    EDGESHARD_LOG_FORMAT: '1',
    EDGESHARD_TIED: '1'
  })
})

test('and what else this process has', () => {
  const environment = { PATH: '/bin', DEBUG: 'edgeshard:*', EDGESHARD_TEST_EMULATED: '1' }
  expect(nodeEnvironment(environment)).toEqual({ ...environment, EDGESHARD_TIED: '1' })
})
