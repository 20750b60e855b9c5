import { TcpRelay } from '../fixtures/tcp-relay.ts'

/** A relay to a port of this machine that holds back what it passes by so many ms each way, and takes any amount of it. */
export function delayRelay(target: number, delayMs: number): Promise<TcpRelay> {
  return TcpRelay.start(target, (from, to) => {
    from.setNoDelay(true)
    // Timers of one length end in the order in which they were set.
    from.on('data', data => void setTimeout(() => to.write(data), delayMs))
  })
}
