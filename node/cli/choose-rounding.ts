import { createInterface } from 'node:readline/promises'
import type { Rounding } from '../../models/import/rounding.ts'
import { roundingOptions } from '../../models/import/rounding.ts'
import { growthText, percentText, type StoreOffer, sizeText } from '../../models/import/store-cost.ts'

/** The terminal at which a person is asked. */
export interface Asking {
  input: NodeJS.ReadableStream
  output: NodeJS.WritableStream
  signal: AbortSignal
}

/** The person at the terminal, to be asked how a model is to be taken; nobody where there is no terminal, or a program reads. */
export function chooserOf(
  { json }: { json?: boolean },
  signal: AbortSignal
): { choose?: (offer: StoreOffer) => Promise<Rounding | undefined> } {
  if (json === true || process.stdin.isTTY !== true || process.stderr.isTTY !== true) return {}
  const asking = { input: process.stdin, output: process.stderr, signal }
  return { choose: offer => chooseRounding(offer, asking) }
}

/**
 * Shows what a model takes in the store as it is, and rounded at which error, and asks which it is to be.
 *
 * @returns undefined where it is to be as planned, as it is where only Enter, or the end of the input, comes.
 * @throws the signal's reason
 */
export async function chooseRounding(
  { fileBytes, planned, others }: StoreOffer,
  { input, output, signal }: Asking
): Promise<Rounding | undefined> {
  const rows = [
    [planned.relativeError > 0 ? 'as planned' : 'its own values', planned] as const,
    ...others.map(other => [roundingOptions(other), other] as const)
  ]
  output.write(`The file has ${sizeText(fileBytes)}. In the store the model takes more, or is rounded:\n`)
  for (const [at, [name, cost]] of rows.entries()) {
    const error = cost.relativeError === 0 ? 'exact' : `relative error ${percentText(cost.relativeError)}`
    const growth = `${growthText(cost, fileBytes)} times`
    output.write(
      `  ${at + 1}  ${name.padEnd(24)}${sizeText(cost.storeBytes).padStart(11)}  ${growth}, ${error}\n`
    )
  }
  const asked = createInterface({ input, output })
  const ended = new AbortController()
  asked.once('close', () => ended.abort())
  // A terminal that is asked for a line passes Ctrl-C to who asks.
  asked.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
  const until = AbortSignal.any([signal, ended.signal])
  try {
    for (;;) {
      const line = await asked.question(`Which one? 1 to ${rows.length} [1]: `, { signal: until })
      const answer = line.trim()
      if (answer === '' || answer === '1') return undefined
      const chosen = others[Number(answer) - 2]
      if (chosen === undefined) continue
      const { quantize, blockSize } = chosen
      return { quantize, ...(blockSize !== undefined && { blockSize }) }
    }
  } catch (error) {
    signal.throwIfAborted()
    // The input has ended without a choice.
    if (ended.signal.aborted) return undefined
    throw error
  } finally {
    asked.close()
  }
}
