import { expect, it } from 'vitest'
import { supported } from '../../models/import/supported.ts'
import { supportedMarkdown, supportedText } from '../../node/cli/supported.ts'
import { pageText } from './pages.ts'
import { supportedSection } from './supported.ts'

it('README.md lists what the code can import', () => {
  // `npm run supported` writes it.
  expect(supportedSection(pageText('README.md'))).toBe(supportedMarkdown(supported()))
})

it('prints the same families and formats on a terminal', () => {
  const all = supported()
  const text = supportedText(all)
  expect(all.families.length).toBeGreaterThan(10)
  for (const { huggingFace } of all.families) expect(text).toContain(huggingFace)
  for (const type of all.gguf) expect(text).toContain(type)
})
