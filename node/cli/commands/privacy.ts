import { availableParallelism } from 'node:os'
import { Command } from 'commander'
import type { PrivacyReport } from '../../privacy/measure.ts'
import { fitted, tableText } from '../../table.ts'
import { jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { measuredPrivacy, privacyModel } from '../measured-privacy.ts'
import { integerOption } from '../options.ts'

interface PrivacyOptions {
  model?: string
  text?: string
  threads: number
  home?: string
  json?: boolean
}

/** `edgeshard privacy`: how much of a prompt the next device could recover from what it is sent. */
export function privacyCommand(): Command {
  return new Command('privacy')
    .description(
      'Measure how much of a prompt the next device could recover from the hidden states it is sent.'
    )
    .option('--model <name>', 'a model of the store (default: the one that ships with edgeshard)')
    .option('--text <file>', 'text to fit to and to try on, a paragraph a prompt (default: some that ships)')
    .option('--threads <n>', 'threads that compute', integerOption(1, 1024), availableParallelism())
    .option('--home <dir>', 'where models live (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'the figures on stdout')
    .action(run)
}

async function run({ model, text, threads, home, json }: PrivacyOptions): Promise<void> {
  const found = await privacyModel({ model, home: homeDir(home) })
  const { signal, dispose } = interruptSignal()
  try {
    const report = await measuredPrivacy({ text, threads }, found, signal)
    const { name } = found.stored
    process.stdout.write(
      json === true
        ? jsonLine({ model: name, ...report })
        : privacyTable(name, report, process.stdout.columns)
    )
  } finally {
    dispose()
  }
}

/** @param columns of the terminal; undefined: there is none */
export function privacyTable(
  name: string,
  { fitTokens, testTokens, guessing, rows }: PrivacyReport,
  columns: number | undefined
): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const cells = rows.map(({ decoderLayers, computeMs, nearest, fitted: byMap }) => [
    decoderLayers === 0 ? 'embedding' : `embedding and ${decoderLayers} of ${rows.at(-1)!.decoderLayers}`,
    computeMs.toFixed(2),
    percent(nearest),
    percent(byMap)
  ])
  const head = ['layers that stay here', 'ms a token', 'nearest embedding', 'fitted map']
  const lines = [
    `Tokens of a prompt to ${name} that the next device could recover from the hidden states it is sent:`,
    '',
    tableText(head, cells, columns, { align: ['left', 'right', 'right', 'right'] }),
    '',
    `Fitted to ${fitTokens} tokens, tried on ${testTokens} of other text. Always guessing the most frequent one: ${percent(guessing)}.`,
    'This is a lower bound: whoever has more text, or trains a decoder, recovers more. --privacy prompt, the default,',
    'keeps the embedding and 1 layer here; sealed keeps the head, too, so that nobody else sees the answer.',
    ''
  ]
  return fitted(lines.join('\n'), columns)
}
