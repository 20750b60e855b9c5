import type { Lab } from './lab.ts'
import type { LabNode } from './lab-node.ts'

/**
 * Nodes of one mesh, by invitation, started together after the first.
 *
 * @param args of `edgeshard up`, for each
 */
export async function members(
  lab: Lab,
  [first, ...others]: readonly string[],
  args: string[] = []
): Promise<LabNode[]> {
  const node = await lab.up(first!, args)
  for (const name of others) await lab.cli(name, ['join'], await lab.cli(first!, ['invite']))
  return [node, ...(await Promise.all(others.map(name => lab.up(name, args))))]
}
