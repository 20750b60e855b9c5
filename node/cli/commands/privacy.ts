import { readFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { Command } from 'commander'
import { startRuntime } from '../../../models/runtime/client.ts'
import { ModelStore } from '../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../bundled.ts'
import { DEFAULT_MODEL } from '../../constants.ts'
import { measurePrivacy, type PrivacyReport } from '../../privacy/measure.ts'
import { TEXT } from '../../privacy/text.ts'
import { sideFilesOf, tokenizerOf } from '../../source/placement/model-tokenizer.ts'
import { fitted, tableText } from '../../table.ts'
import { InputError } from '../errors.ts'
import { jsonLine } from '../format.ts'
import { homeDir, storeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'
import { integerOption } from '../options.ts'
import { progressBar } from '../progress.ts'

const MAX_TEXT_BYTES = 2 ** 24

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
  const paragraphs = text === undefined ? TEXT : await paragraphsOf(text)
  const store = ModelStore.at(model === undefined ? BUNDLED_DIR : storeDir(homeDir(home)))
  const stored = await store.resolve(model ?? DEFAULT_MODEL)
  const interrupt = interruptSignal()
  const bar = progressBar('measuring', 'steps')
  const runtime = await startRuntime({ threads })
  try {
    const { signal } = interrupt
    const tokenizer = await tokenizerOf(await sideFilesOf(store, stored), stored.manifest)
    const sequences: number[][] = []
    for (const paragraph of paragraphs) sequences.push(await tokenizer.encode(paragraph, { signal }))
    await tokenizer.close()
    const { manifest } = stored
    const report = await measurePrivacy({
      manifest,
      blobsDir: store.blobsDir,
      runtime,
      sequences,
      signal,
      onProgress: bar.update
    })
    bar.stop()
    process.stdout.write(
      json === true
        ? jsonLine({ model: stored.name, ...report })
        : privacyTable(stored.name, report, process.stdout.columns)
    )
  } finally {
    bar.stop()
    await runtime.stop()
    interrupt.dispose()
  }
}

async function paragraphsOf(path: string): Promise<string[]> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new InputError(`--text ${path} cannot be read: ${error.message}`)
  })
  if (bytes.length > MAX_TEXT_BYTES) {
    throw new InputError(`--text ${path} has ${bytes.length} bytes; ${MAX_TEXT_BYTES} are read at most`)
  }
  return bytes
    .toString('utf8')
    .split(/\n\s*\n/)
    .map(paragraph => paragraph.trim())
    .filter(paragraph => paragraph !== '')
}

/** @param columns of the terminal; undefined: there is none */
export function privacyTable(
  name: string,
  { fitTokens, testTokens, guessing, rows }: PrivacyReport,
  columns: number | undefined
): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`
  const cells = rows.map(({ decoderLayers, computeMs, nearest, fitted }) => [
    decoderLayers === 0 ? 'embedding' : `embedding and ${decoderLayers} of ${rows.at(-1)!.decoderLayers}`,
    computeMs.toFixed(2),
    percent(nearest),
    percent(fitted)
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
