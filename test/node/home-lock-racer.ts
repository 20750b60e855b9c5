// Started twice by home-lock.test.ts: locks each home that it is told of, at the moment that it is told.
import { lockHome } from '../../node/home-lock.ts'

process.on('message', async ({ home, atMs }: { home: string; atMs: number }) => {
  while (Date.now() < atMs);
  const won = await lockHome(home).then(
    () => true,
    () => false
  )
  process.send?.(won)
})
process.send?.('ready')
