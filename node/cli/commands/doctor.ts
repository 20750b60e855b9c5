import { writeFile } from 'node:fs/promises'
import { Command } from 'commander'
import { messageOf } from '../../../protocols/text.ts'
import { diagnose, type Finding } from '../../doctor/index.ts'
import { type DoctorReport, reportOf } from '../../doctor/report.ts'
import { tableText } from '../../table.ts'
import { InputError } from '../errors.ts'
import { clean } from '../format.ts'
import { homeDir, withHome } from '../home.ts'

/** `edgeshard doctor`: what keeps this device from being a good member, and what to do. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check network, memory, disk, runtime and peers, and say what to do for each finding.')
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option(
      '--report <file>',
      'also write what was found into a file to pass on when a driver fails: without names, ids, addresses, tokens and paths'
    )
    .option('--json', 'one JSON document on stdout')
    .action(doctor)
}

async function doctor(options: { home?: string; report?: string; json?: boolean }): Promise<void> {
  const home = homeDir(options.home)
  const findings = await diagnose(home, withHome('edgeshard up', home))
  if (options.report !== undefined) await writeReport(options.report, await reportOf(home, findings))
  if (options.json === true) process.stdout.write(`${JSON.stringify({ findings })}\n`)
  else process.stdout.write(`${findingsTable(findings, process.stdout.columns)}\n`)
  if (options.report !== undefined && options.json !== true) {
    process.stdout.write(`\n${clean(options.report)} is written. Look through it before you pass it on.\n`)
  }
  if (findings.some(({ level }) => level === 'problem')) process.exitCode = 1
}

/** @throws {InputError} where the file cannot be written */
async function writeReport(path: string, report: DoctorReport): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(report, null, 2)}\n`, { mode: 0o600 })
  } catch (error) {
    throw new InputError(`--report: ${messageOf(error)}`, { cause: error })
  }
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
