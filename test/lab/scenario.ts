import * as z from 'zod'

const link = { mbps: z.number().min(0), latencyMs: z.number().min(0).default(0) }

/**
 * A lab: hosts with their share of a processor and budget, and the links between them in the form of a planner's
 * scenario. `latencyMs` is one way; `mbps` 0 is no limit.
 */
export const labScenario = z.strictObject({
  hosts: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[a-z0-9-]{1,12}$/),
        /** Value of `up --memory`. */
        memory: z.string().optional(),
        /** Processors that the node may use, such as 0.25. */
        cpus: z.number().gt(0).optional(),
        /** Period of that quota; the kernel wants a quota of 1 ms at least. @default 10000 */
        cpuPeriodUs: z.int().min(1000).max(1_000_000).optional()
      })
    )
    .min(1)
    .max(64),
  links: z
    .strictObject({
      default: z.strictObject(link),
      pairs: z
        .array(
          z.union([
            z.strictObject({ between: z.tuple([z.string(), z.string()]), ...link }),
            z.strictObject({ from: z.string(), to: z.string(), ...link })
          ])
        )
        .default([])
    })
    .default({ default: { mbps: 0, latencyMs: 0 }, pairs: [] })
})

export type LabScenario = z.input<typeof labScenario>
export type LabLinks = z.output<typeof labScenario>['links']

/** The links as meshlink reads them; hosts are named as their namespaces. */
export function meshlinkLines(
  links: LabLinks,
  namespace: (host: string) => string,
  unplugged: Iterable<string>
): string {
  const lines = [`default ${links.default.latencyMs} ${links.default.mbps}`]
  // One direction wins over both, as in a scenario.
  for (const pair of links.pairs) {
    if ('between' in pair) {
      const [a, b] = pair.between.map(namespace)
      lines.push(`${a} ${b} ${pair.latencyMs} ${pair.mbps} both`)
    }
  }
  for (const pair of links.pairs) {
    if ('from' in pair)
      lines.push(`${namespace(pair.from)} ${namespace(pair.to)} ${pair.latencyMs} ${pair.mbps}`)
  }
  for (const host of unplugged) lines.push(`down ${namespace(host)}`)
  return `${lines.join('\n')}\n`
}
