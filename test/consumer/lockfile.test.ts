import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

interface Lockfile {
  packages: Record<string, { version: string; hasInstallScript?: boolean; resolved?: string }>
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), 'utf8'))
const { packages } = read('package-lock.json') as Lockfile

// npm 11 and 12 leave onnxruntime-node's script alone because package.json says so (allowScripts); npm 10, which comes
// with Node 20, goes by the lockfile. The script would download CUDA libraries, which nothing here uses.
test('npm ci runs no install script of a dependency: take "hasInstallScript" out where npm install has written it', () => {
  const scripts = Object.entries(packages).filter(
    ([, { hasInstallScript }]) => hasInstallScript !== undefined
  )
  expect(scripts.map(([path]) => path)).toEqual([])
  expect(read('package.json')).toMatchObject({ allowScripts: { 'onnxruntime-node': false } })
})

test('the lockfile names no registry', () => {
  expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([])
})

test('every dependency is pinned to one version', () => {
  const { dependencies, devDependencies, optionalDependencies } = read('package.json') as Record<
    string,
    Record<string, string>
  >
  for (const [name, version] of Object.entries({
    ...dependencies,
    ...devDependencies,
    ...optionalDependencies
  })) {
    expect(packages[`node_modules/${name}`]?.version, name).toBe(version)
  }
})
