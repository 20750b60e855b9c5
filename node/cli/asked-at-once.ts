/** The same events, of which the first is asked for now, and not only when it is read: what reads them may be loaded meanwhile. */
export function askedAtOnce<T>(events: AsyncGenerator<T>): AsyncGenerator<T> {
  const first = events.next()
  // The failure is thrown where the first event is read, below; until then nobody has to be told.
  first.catch(() => {})
  return (async function* () {
    try {
      for (let next = await first; next.done !== true; next = await events.next()) yield next.value
    } finally {
      await events.return(undefined)
    }
  })()
}
