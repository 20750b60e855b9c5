import { Command } from 'commander'
import { demo } from '../demo/demo.ts'

/** `edgeshard demo`: the whole thing on one machine. */
export function demoCommand(): Command {
  return new Command('demo')
    .description(
      'Start three nodes on this machine that share one model, prompt two of them, and compare with one.'
    )
    .option('--no-mdns', 'do not look for each other (shows what happens when nobody is found)')
    .action(async ({ mdns }: { mdns: boolean }) => {
      const interrupted = new AbortController()
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
        process.on(signal, () => interrupted.abort())
      await demo({ mdns, write: text => process.stdout.write(text), signal: interrupted.signal })
    })
}
