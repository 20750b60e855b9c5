// Started by home-lock.test.ts: locks each home that it is told of, at the moment that it is told, and keeps it.
import { lockHome } from '../../node/home-lock.ts'

const held: unknown[] = []

process.on('message', async ({ home, atMs }: { home: string; atMs: number }) => {
  while (Date.now() < atMs);
  const outcome = await lockHome(home).then(
    unlock => {
      held.push(unlock)
      return 'won'
    },
    (error: Error) => error.message
  )
  process.send?.(outcome)
})
process.send?.('ready')
