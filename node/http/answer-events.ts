import type { GenerateEvent } from '../api.ts'

/**
 * Waits for the first event of the mesh's work other than progress, so that a refusal still gets its own status, but not longer than
 * `graceMs`. Gives back all events, those that already came included.
 *
 * @throws whatever the node refuses the request with.
 */
export async function settled(
  events: AsyncGenerator<GenerateEvent>,
  graceMs: number
): Promise<{ events: AsyncGenerator<GenerateEvent>; early: GenerateEvent[] }> {
  const early: GenerateEvent[] = []
  const deadline = AbortSignal.timeout(graceMs)
  const late = new Promise<'late'>(resolve => deadline.addEventListener('abort', () => resolve('late')))
  for (;;) {
    const pending = events.next()
    const first = await Promise.race([pending, late])
    if (first === 'late') {
      // Read later with the other events; an error must not count as unhandled until then.
      pending.catch(() => undefined)
      return { events: resumed(early, pending, events), early }
    }
    if (first.done === true) return { events: resumed(early, null, events), early }
    early.push(first.value)
    if (first.value.type !== 'progress' && first.value.type !== 'prompt')
      return { events: resumed(early, null, events), early }
  }
}

async function* resumed(
  early: readonly GenerateEvent[],
  pending: Promise<IteratorResult<GenerateEvent>> | null,
  rest: AsyncGenerator<GenerateEvent>
): AsyncGenerator<GenerateEvent> {
  try {
    yield* early
    const next = pending === null ? null : await pending
    if (next?.done === true) return
    if (next !== null) yield next.value
    yield* rest
  } finally {
    await rest.return(undefined)
  }
}
