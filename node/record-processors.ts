import type { LayerProfile, NodeRecord, ProcessorState } from './api.ts'

type Processors = Pick<NodeRecord, 'processors'>

/** A processor that computes stages in memory of its own. */
export type BesideProcessor = ProcessorState & { memory: NonNullable<ProcessorState['memory']> }

/** The processor of a device that its record's memory and times of a model are of; undefined where that is its CPU and it names none. */
export function usedFor({ processors = [] }: Processors, modelId: string): ProcessorState | undefined {
  const used = processors.find(({ used }) => used)
  // The CPU has in its place what it refuses.
  return used?.refuses?.includes(modelId) ? processors.find(({ kind }) => kind === 'cpu') : used
}

/**
 * The processor that computes stages of a model beside that one, in memory of its own; undefined where none does, as of a model
 * that the one which is used refuses: both would be the CPU.
 */
export function besideFor({ processors = [] }: Processors, modelId: string): BesideProcessor | undefined {
  const used = usedFor({ processors }, modelId)
  const beside = processors.find(({ kind, memory }) => memory !== undefined && kind !== used?.kind)
  return used?.used ? (beside as BesideProcessor | undefined) : undefined
}

/** Name that stages of a model on the processor which a device uses have for it: its kind, where another one computes beside it, else none. */
export function usedName(record: Processors, modelId: string): string | undefined {
  return besideFor(record, modelId) === undefined ? undefined : usedFor(record, modelId)?.kind
}

/** Memory for stages of all processors of a device together. */
export function allMemory({
  memory,
  processors = []
}: Pick<NodeRecord, 'memory' | 'processors'>): NodeRecord['memory'] {
  return processors.reduce(
    (sum, { memory: beside }) => ({
      budgetBytes: sum.budgetBytes + (beside?.budgetBytes ?? 0),
      freeBytes: sum.freeBytes + (beside?.freeBytes ?? 0)
    }),
    memory
  )
}

/** A device's times of a model, on the processor of that name or, without one, on the one that is used. */
export function timesOn(
  record: Pick<NodeRecord, 'profiles' | 'processors'>,
  modelId: string,
  processor: string | undefined
): LayerProfile | undefined {
  const beside = processor === undefined ? undefined : besideFor(record, modelId)
  const profiles = beside !== undefined && beside.kind === processor ? beside.profiles : record.profiles
  return profiles?.[modelId]
}

/**
 * The class of bits of what computes a device's stages of a model: undefined for a CPU, else the kind of processor, and whether its
 * kernels were found to keep bits. Within a class an answer has the same tokens whichever device computes it; across
 * classes only nearly always.
 *
 * @param processor that a stage names; undefined: the one that is used
 */
export function bitsClassOf(record: Processors, modelId: string, processor?: string): string | undefined {
  const named = record.processors?.find(({ kind }) => kind === processor)
  const computes = processor === undefined ? usedFor(record, modelId) : named
  if (computes === undefined || computes.kind === 'cpu') return undefined
  return computes.keepsBits === true ? `${computes.kind}-exact` : computes.kind
}
