import type { ChurnMesh } from './mesh.ts'

/** Names, of a mesh in which nothing happens, what should not be there: sessions, leases of no deployment, memory that nobody holds. */
export function leftovers({ mesh, sources }: ChurnMesh): string[] {
  const placed = sources.flatMap(({ id, deployments }) =>
    deployments
      .state()
      .flatMap(({ modelId, plan, standby }) =>
        [...plan.stages, ...(standby?.stages ?? [])].map(stage => ({ source: id, modelId, ...stage }))
      )
  )
  return [...mesh.nodes.values()].flatMap(({ id, room, runtime, warm }) => {
    const { leases, sessions } = room
    const { leaseIds } = warm
    const held = leases.state(() => 0)
    const orphans = held.filter(
      lease =>
        !placed.some(
          stage =>
            stage.source === lease.source &&
            stage.modelId === lease.modelId &&
            // What is loaded for a loss is a stage elsewhere.
            (leaseIds.has(lease.id) || (stage.peerId === id && String(stage.layers) === String(lease.layers)))
        )
    )
    const stages = held.length - leaseIds.size
    return [
      ...orphans.map(
        lease => `${id} holds a lease of [${lease.layers}) that belongs to no deployment of ${lease.source}`
      ),
      ...(sessions.open === 0 ? [] : [`${id} has ${sessions.open} sessions open`]),
      ...(leases.waiting === 0 ? [] : [`${leases.waiting} stand in line for memory of ${id}`]),
      ...(runtime.batches === stages
        ? []
        : [`${id} has ${runtime.batches} KV caches and ${stages} leases of stages`]),
      ...(runtime.shards <= held.length
        ? []
        : [`${id} has ${runtime.shards} shards loaded and ${held.length} leases`]),
      ...(leases.heldBytes <= leases.budgetBytes ? [] : [`${id} has promised more than it has`])
    ]
  })
}
