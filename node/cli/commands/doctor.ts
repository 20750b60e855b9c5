import Table from 'cli-table3'
import { Command } from 'commander'
import { diagnose, type Finding } from '../../doctor/index.ts'
import { clean } from '../format.ts'
import { homeDir } from '../home.ts'

/** `edgeshard doctor`: what keeps this device from being a good member, and what to do. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check network, memory, disk, runtime and peers, and say what to do for each finding.')
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(doctor)
}

async function doctor(options: { home?: string; json?: boolean }): Promise<void> {
  const findings = await diagnose(homeDir(options.home))
  if (options.json === true) process.stdout.write(`${JSON.stringify({ findings })}\n`)
  else process.stdout.write(`${table(findings)}\n`)
  if (findings.some(({ level }) => level === 'problem')) process.exitCode = 1
}

function table(findings: Finding[]): string {
  const lines = new Table({
    head: ['', 'check', 'found', 'to do'],
    style: { head: [], border: [] },
    wordWrap: true,
    colWidths: [9, 14, 50, 50]
  })
  for (const { level, check, found, advice } of findings)
    lines.push([level, check, clean(found), clean(advice ?? '')])
  return lines.toString()
}
