import { readdirSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { sharedData } from '../fixtures/shared-data.ts'

/** The forms that a golden model is there in. */
export const FORMS = { folder: 'hf', gguf: 'model.gguf' } as const
export type Form = keyof typeof FORMS

export interface GoldenOptions {
  models: string[]
  /** How many devices have to share a model. */
  nodes: number[]
}

export const USAGE =
  'usage: npm run golden -- [--nodes 1,3] [MODEL ...]\n' +
  '  --nodes LIST  over how many devices each model is run: 1, 3, or both (1,3)\n' +
  '  MODEL         folders of data/arch (all)\n'

/** @throws saying what is wrong */
export function goldenOptions(args: string[]): GoldenOptions {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { nodes: { type: 'string', default: '1,3' } }
  })
  const nodes = values.nodes.split(',').map(Number)
  const strange = nodes.find(count => count !== 1 && count !== 3)
  if (strange !== undefined) throw new Error(`--nodes ${values.nodes} is not 1, 3 or both`)
  const there = readdirSync(sharedData('arch')).sort()
  const unknown = positionals.find(name => !there.includes(name))
  if (unknown !== undefined) throw new Error(`there is no ${unknown}; there are ${there.join(', ')}`)
  return { models: positionals.length > 0 ? positionals : there, nodes }
}
