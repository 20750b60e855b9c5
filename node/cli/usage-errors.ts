import type { Command } from 'commander'

/** Has a command and those below it say in one line what is wrong with a command line, as every error is said, and where to read on. */
export function sayUsageErrors(command: Command, readOn: string): void {
  command.configureOutput({
    outputError: (text, write) => write(`${usageErrorLine(text, readOn)}\n`)
  })
  for (const each of command.commands) sayUsageErrors(each, readOn)
}

/** @param text as commander has it: several lines, the first with a word before it that says no more */
export function usageErrorLine(text: string, readOn: string): string {
  const said = text
    .trim()
    .replace(/^error: /, '')
    .replaceAll(/\s*\n\s*/g, ' ')
    .replace(/\.$/, '')
  return `edgeshard: ${said}; ${readOn}`
}
