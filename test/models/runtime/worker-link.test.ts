import { expect, it } from 'vitest'
import { WorkerLink } from '../../../models/runtime/worker-link.ts'

const SETUP = { threads: 1, spinUs: 0 }

it('rejects what is pending when the thread ends by itself, and everything after', async () => {
  const link = new WorkerLink(SETUP)
  await link.online
  // The thread ends behind its answer to `stop`; the call after it is never read.
  const stopped = link.call({ op: 'stop' })
  const pending = link.call({ op: 'close', session: 1 })
  await expect(pending).rejects.toMatchObject({ name: 'RuntimeStoppedError' })
  await expect(pending).rejects.toThrow(/the runtime's thread ended/)
  await stopped
  expect(link.ended).toMatchObject({ name: 'RuntimeStoppedError' })
  await expect(link.call({ op: 'trim', session: 1, length: 0 })).rejects.toThrow(/thread ended/)
})

it('names the session, shard or batch that is not there', async () => {
  const link = new WorkerLink(SETUP)
  await expect(link.call({ op: 'trim', session: 1, length: 0 })).rejects.toMatchObject({
    name: 'SessionClosedError'
  })
  await expect(link.call({ op: 'open', shard: 1, session: 2, options: { maxTokens: 1 } })).rejects.toThrow(
    'the shard was released'
  )
  await expect(link.call({ op: 'openSlot', batch: 1, session: 2, options: {} })).rejects.toThrow(
    'the batch is closed'
  )
  await link.stop()
  await link.stop()
})
