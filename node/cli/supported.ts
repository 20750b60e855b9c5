import type { Supported, SupportedFamily } from '../../models/import/supported.ts'
import { fitted, tableText } from '../table.ts'

const HEAD = ['models', 'Hugging Face', 'GGUF', 'held to']

function cells({ models, huggingFace, gguf, heldTo, textOnly }: SupportedFamily): string[] {
  return [textOnly ? `${models}: text` : models, huggingFace, gguf ?? '-', heldTo]
}

const formats = ({ safetensors, quantized, gguf }: Supported) =>
  [`safetensors: ${[...safetensors, ...quantized].join(', ')}`, `GGUF: ${gguf.join(', ')}`] as const

/** What can be imported, for a terminal. */
export function supportedText(all: Supported, columns: number | undefined = process.stdout.columns): string {
  const lines = formats(all).map(line => fitted(line, columns))
  return [tableText(HEAD, all.families.map(cells), columns), ...lines, ''].join('\n')
}

/** The same as Markdown, for README.md. */
export function supportedMarkdown(all: Supported): string {
  const row = (values: readonly string[]) => `| ${values.join(' | ')} |`
  const rows = [HEAD, HEAD.map(() => '---'), ...all.families.map(cells)]
  return [...rows.map(row), '', ...formats(all).map(line => `- ${line}`)].join('\n')
}
