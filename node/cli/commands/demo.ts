import { Command } from 'commander'
import { demo } from '../../demo/demo.ts'
import { interruptSignal } from '../interrupt.ts'

/** `edgeshard demo`: the whole thing on one machine. */
export function demoCommand(): Command {
  return new Command('demo')
    .description(
      'Start three nodes on this machine that share one model, prompt two of them, and compare with one; then guess ahead and lose one.'
    )
    .option('--no-mdns', 'do not look for each other (shows what happens when nobody is found)')
    .action(async ({ mdns }: { mdns: boolean }) => {
      const { signal, dispose } = interruptSignal()
      try {
        await demo({ mdns, write: text => process.stdout.write(text), signal })
      } finally {
        dispose()
      }
    })
}
