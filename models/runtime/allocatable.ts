import type { Processor, SlotMemory } from './processor.ts'

/** What is asked for at once: about a layer of a large model, and within what every driver gives a buffer. */
const PIECE_BYTES = 128 * 1024 * 1024
const FLOAT_BYTES = 4

/** Bytes that a processor gives before it refuses, up to `most`: all of it is held at once, and then freed. */
export async function allocatableBytes(processor: Processor, most: number): Promise<number> {
  const pieces: SlotMemory[] = []
  try {
    while ((pieces.length + 1) * PIECE_BYTES <= most) {
      pieces.push(await processor.allocate(1, [1, 1, PIECE_BYTES / FLOAT_BYTES]))
    }
  } catch {
    // That it refuses is the answer.
  } finally {
    for (const piece of pieces) piece.free()
  }
  return pieces.length * PIECE_BYTES
}
