import { Command } from 'commander'
import { diagnose, type Finding } from '../../doctor/index.ts'
import { tableText } from '../../table.ts'
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
  else process.stdout.write(`${findingsTable(findings, process.stdout.columns)}\n`)
  if (findings.some(({ level }) => level === 'problem')) process.exitCode = 1
}

/** @param columns of the terminal; undefined: there is none */
export function findingsTable(findings: readonly Finding[], columns: number | undefined): string {
  const rows = findings.map(({ level, check, found, advice }) => [
    check,
    level,
    clean(found),
    clean(advice ?? '')
  ])
  return tableText(['check', '', 'found', 'to do'], rows, columns, { widths: [14, 9, 50, 50] })
}
