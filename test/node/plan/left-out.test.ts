import { expect, test } from 'vitest'
import { type Plan, parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'

type Device = ScenarioInput['devices'][number]

/** Six layers of 1 ms, all of which fit `desk`, the source; 4,000 bytes between them take 0.32 ms, and a delay of 1. */
function scenario(
  others: readonly Device[],
  { deskTurnMs = 0, ...rest }: Partial<ScenarioInput> & { deskTurnMs?: number } = {}
): ScenarioInput {
  return {
    devices: [{ id: 'desk', memoryBytes: 60, profile: 'fast', turnMs: deskTurnMs }, ...others],
    source: 'desk',
    links: { default: { mbps: 100, latencyMs: 1 } },
    model: {
      name: 'tiny',
      layers: [{ kind: 'decoder', count: 6, weightBytes: 10, activationBytes: 4000 }]
    },
    profiles: { fast: { decoder: { decodeMs: 1 } }, slow: { decoder: { decodeMs: 1.1 } } },
    workload: { promptTokens: 1, newTokens: 8, batch: 1, contextTokens: 0 },
    privacy: 'embedding',
    ...rest
  }
}

function reasonsOf(input: ScenarioInput): string[] {
  const result = plan(parseScenario(input)) as Plan
  expect(result.stages.map(({ device }) => device)).toEqual(['desk'])
  return result.left.map(({ reason }) => reason)
}

test('what a stage takes beside its layers is not said of its links', () => {
  const [reason] = reasonsOf(scenario([{ id: 'laptop', memoryBytes: 60, profile: 'slow', turnMs: 5 }]))
  expect(reason).toContain('its links add 2.6 ms or more, a stage on it 5.0 ms beside its layers')
})

test('a device with slower layers is said to have them, whatever the source takes beside its own', () => {
  const laptop = { id: 'laptop', memoryBytes: 60, profile: 'slow' }
  const [reason] = reasonsOf(scenario([laptop], { deskTurnMs: 3 }))
  expect(reason).toContain('its links add 2.6 ms or more, its layers 1.1 ms each')
})

test('a device that nothing is connected to is said to be so, whichever of its processors one looks at', () => {
  const processors = ['cpu', 'gpu'].map(id => ({ id, memoryBytes: 60, profile: 'fast' }))
  const reasons = reasonsOf(
    scenario([{ id: 'laptop', processors }], {
      links: {
        default: { mbps: 100, latencyMs: 1 },
        pairs: [{ between: ['desk', 'laptop'], connected: false }]
      }
    })
  )
  expect(reasons).toEqual(Array(2).fill('no other device is connected to it'))
})
