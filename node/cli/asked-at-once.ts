/** The same events, of which the first is asked for now, and not only when it is read: what reads them may be loaded meanwhile. */
export function askedAtOnce<T>(events: AsyncGenerator<T>): AsyncGenerator<T> {
  const first = events.next()
  // Whoever reads hears of it.
  first.catch(() => {})
  return (async function* () {
    try {
      for (let next = await first; next.done !== true; next = await events.next()) yield next.value
    } finally {
      await events.return(undefined)
    }
  })()
}
