/** How a node's memory for stages is shared out between the processors that compute them. */
export interface Memories {
  /** Memory of the processor that is used. */
  budgetBytes: number
  /** Memory of the CPU beside a GPU that is used; absent: there is none to share out. */
  besideBytes?: number
}

/** Share of what can be allocated on a GPU that stages may take: the rest is for what a run has alive, and for the screen. */
const GPU_MEMORY_SHARE = 0.8

/**
 * Bytes that stages may take of a GPU's memory.
 *
 * @param allocatableBytes what it was found to give
 */
export function gpuStageBytes(allocatableBytes: number): number {
  return Math.floor(GPU_MEMORY_SHARE * allocatableBytes)
}

/**
 * The memory of each processor. Both together have what was given for stages, however much of it is on a card: where the GPU fails the CPU takes its place, and
 * many GPUs have no memory but the CPU's. So nothing is given twice.
 *
 * @param stageBytes what was given for stages
 * @param gpuBytes what of it the GPU may have; undefined where there is no GPU, or nobody knows how much it has: then it has all
 */
export function memoriesOf(stageBytes: number, gpuBytes: number | undefined): Memories {
  if (gpuBytes === undefined || gpuBytes >= stageBytes) return { budgetBytes: stageBytes }
  return { budgetBytes: gpuBytes, besideBytes: stageBytes - gpuBytes }
}
