import { Command, CommanderError } from 'commander'
import { expect, test } from 'vitest'
import { sayUsageErrors } from '../../../node/cli/usage-errors.ts'

/** What a command line gets to read of `words`. */
function saidOf(words: string[]): string {
  let said = ''
  const ban = new Command('ban').argument('<peer>')
  const mesh = new Command('mesh').option('--home <dir>').addCommand(ban)
  const program = new Command('edgeshard').addCommand(mesh)
  sayUsageErrors(program, 'edgeshard --help lists the commands')
  sayUsageErrors(mesh, 'edgeshard mesh --help says what it takes')
  for (const command of [program, mesh, ban]) {
    command.exitOverride().configureOutput({
      writeErr: text => {
        said += text
      }
    })
  }
  expect(() => program.parse(words, { from: 'user' })).toThrow(CommanderError)
  return said
}

test.each([
  [['mash'], "edgeshard: unknown command 'mash' (Did you mean mesh?); edgeshard --help lists the commands\n"],
  [['mesh', '--all'], "edgeshard: unknown option '--all'; edgeshard mesh --help says what it takes\n"],
  [['mesh', 'ban'], "edgeshard: missing required argument 'peer'; edgeshard mesh --help says what it takes\n"]
])('%j is refused in one line that says where to read on', (words, line) => {
  expect(saidOf(words)).toBe(line)
})
