import type { ScenarioInput } from '../plan/index.ts'
import type { Problem } from '../plan/problem.ts'
import { privacyCurve } from '../privacy/curve.ts'
import { renderCurve } from '../privacy/curve-text.ts'
import { InfeasibleError, InputError } from './errors.ts'
import { jsonLine } from './format.ts'
import { interruptSignal } from './interrupt.ts'
import { measuredPrivacy, type PrivacySample, privacyModel } from './measured-privacy.ts'

export interface CurveOptions extends Omit<PrivacySample, 'model'> {
  model?: string | undefined
  budgetMs: number
  json: boolean
}

/**
 * Measures the model that a scenario is about, plans it at each number of layers that was measured, and prints both.
 *
 * @throws {InputError} where this device has no model of that name, or one of other layers; {InfeasibleError} where no row fits
 */
export async function printPrivacyCurve(
  { name, layers }: ScenarioInput['model'],
  problem: Problem,
  { budgetMs, json, ...sample }: CurveOptions
): Promise<void> {
  const called = sample.model ?? name
  const found = await privacyModel({ ...sample, model: called }).catch((error: Error) => {
    throw new InputError(
      `what the next device could tell is measured on the model's files, and this device has no model ${JSON.stringify(called)}: ` +
        `name one with --model (${error.message})`
    )
  })
  const planned = layers.reduce((sum, { count = 1 }) => sum + count, 0)
  const { decoderLayers } = found.stored.manifest.shape
  if (planned !== decoderLayers + 2) {
    throw new InputError(
      `${found.stored.name} has ${decoderLayers} decoder layers, and what is planned ${planned - 2}: --model names the one to measure`
    )
  }
  const { signal, dispose } = interruptSignal()
  try {
    const report = await measuredPrivacy(sample, found, signal)
    const rows = privacyCurve(report, problem, { now: () => performance.now(), budgetMs })
    const { name: model } = found.stored
    const { fitTokens, testTokens, guessing } = report
    process.stdout.write(
      json
        ? jsonLine({ model, fitTokens, testTokens, guessing, rows })
        : renderCurve(model, report, rows, process.stdout.columns)
    )
    const [first] = rows
    if (rows.every(({ tpotMs }) => tpotMs === null) && first?.plan.feasible === false) {
      throw new InfeasibleError(first.plan.reason)
    }
  } finally {
    dispose()
  }
}
