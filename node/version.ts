import { existsSync, readFileSync } from 'node:fs'

/** The package's version: package.json lies one folder up in a checkout and two up when compiled to dist/. */
export const VERSION: string = JSON.parse(
  readFileSync(
    [new URL('../package.json', import.meta.url), new URL('../../package.json', import.meta.url)].find(url =>
      existsSync(url)
    )!,
    'utf8'
  )
).version
