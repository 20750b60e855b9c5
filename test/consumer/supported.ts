import { readFileSync, writeFileSync } from 'node:fs'
import { supported } from '../../models/import/supported.ts'
import { supportedMarkdown } from '../../node/cli/supported.ts'

const SECTION = /(?<=<!-- supported -->\n\n)[\s\S]*?(?=\n\n<!-- \/supported -->)/

/** The list of families and formats in README.md. */
export function supportedSection(page: string): string | undefined {
  return SECTION.exec(page)?.[0]
}

// As a program: writes the list again.
if (import.meta.main) {
  const path = new URL('../../README.md', import.meta.url)
  writeFileSync(
    path,
    readFileSync(path, 'utf8').replace(SECTION, () => supportedMarkdown(supported()))
  )
}
