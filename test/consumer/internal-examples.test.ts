import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { ENTRIES, examplesOf, treeExamples } from './examples.ts'
import { ROOT } from './installed.ts'

const MAX_OUTPUT_BYTES = 8 << 20

interface Example {
  file: string
  /** As a file of its own that imports what its file exports. */
  text: string
}

/**
 * Examples in comments of files that no other package imports, and in the pages of rooms. What they take as given is not
 * declared in them.
 */
function internalExamples(): Example[] {
  const files = ['node', 'protocols', 'models'].flatMap(room =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
      .map(path => `${room}/${path.replaceAll('\\', '/')}`)
      .filter(path => path.endsWith('.ts') && !ENTRIES.includes(path))
  )
  const commented = files.flatMap(file =>
    examplesOf(file).map(block => {
      const names = exportsOf(file).filter(name => new RegExp(`\\b${name}\\b`).test(block))
      return {
        file,
        text: `import { ${names.join(', ')} } from '${join(ROOT, file).replaceAll('\\', '/')}'\n${block}`
      }
    })
  )
  return [...commented, ...treeExamples()]
}

function exportsOf(file: string): string[] {
  const source = readFileSync(join(ROOT, file), 'utf8')
  const declared = [...source.matchAll(/^export (?:async )?(?:function|class|const) (\w+)/gm)].map(
    ([, name]) => name!
  )
  const passedOn = [...source.matchAll(/^export \{([^}]*)\}/gm)].flatMap(([, list]) =>
    list!.split(',').map(name => name.trim())
  )
  return [...declared, ...passedOn.filter(name => /^\w+$/.test(name))]
}

async function compile(dir: string, texts: string[]): Promise<string[]> {
  await Promise.all(texts.map((text, i) => writeFile(join(dir, `example-${i}.ts`), text)))
  const tsconfig = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      rootDir: ROOT,
      typeRoots: [join(ROOT, 'node_modules/@types')],
      rewriteRelativeImportExtensions: false,
      // They show what is called, not what else may be.
      noUncheckedIndexedAccess: false,
      noUnusedLocals: false,
      noUnusedParameters: false
    },
    include: ['*.ts']
  }
  await writeFile(join(dir, 'tsconfig.json'), JSON.stringify(tsconfig))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, '-p', dir], {
    maxBuffer: MAX_OUTPUT_BYTES
  }).catch((error: { stdout: string }) => error)
  return stdout.split('\n').filter(line => line !== '')
}

test('what the other examples call is there', { timeout: 120_000 }, async () => {
  const examples = internalExamples()
  expect(examples.length).toBeGreaterThan(5)
  // In the checkout, so that packages are found; git does not see it.
  const dir = join(ROOT, 'node_modules', '.edgeshard-examples')
  await mkdir(dir, { recursive: true })
  try {
    const given: string[][] = examples.map(() => [])
    for (const line of await compile(
      dir,
      examples.map(({ text }) => text)
    )) {
      const [, i, name] = /example-(\d+)\.ts.*(?:TS2304|TS2552|TS18004): .*?'(\w+)'/.exec(line) ?? []
      if (name !== undefined) given[Number(i)]!.push(name)
    }
    const declared = examples.map(({ text }, i) => {
      const names = [...new Set(given[i])]
      return `${names.map(name => `declare const ${name}: any\n`).join('')}${text}`
    })
    const complaints = await compile(dir, declared)
    const named = complaints.map(line =>
      line.replace(/^.*example-(\d+)\.ts/, (_, i) => examples[Number(i)]!.file)
    )
    expect(named).toEqual([])
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
