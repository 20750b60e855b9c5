/**
 * Importing a GGUF file against copying it three times, on the same disk, in turns:
 *
 *     node test/bench/import-speed.ts MODEL.gguf [rounds]
 *
 * A copy counts until its bytes are on the disk, as an import does. ../shared/tools/rand_gguf.py writes a file of 620 MB.
 */

import { copyFile, mkdtemp, open, rm, stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { importModel } from '../../models/import/import-model.ts'
import { ModelStore } from '../../models/store/store.ts'
import { commandOptions } from '../fixtures/command-options.ts'

const [file, rounds = '3'] = commandOptions(import.meta.url, { allowPositionals: true }).positionals
if (file === undefined) {
  process.stderr.write('name a file: npm run bench:import -- MODEL.gguf [rounds]\n')
  process.exit(2)
}

const path = resolve(file)
const { size } = await stat(path)
const dir = await mkdtemp(join(dirname(path), 'edgeshard-bench-'))
const ratios: number[] = []
try {
  for (let round = 0; round < Number(rounds); round++) {
    const copying = await timed(async () => {
      for (let i = 0; i < 3; i++) await durableCopy(join(dir, `copy-${i}`))
    })
    for (let i = 0; i < 3; i++) await rm(join(dir, `copy-${i}`))
    const store = await ModelStore.open(join(dir, 'store'))
    const before = process.cpuUsage()
    const importing = await timed(() => importModel(path, store, { name: 'bench' }))
    const { user, system } = process.cpuUsage(before)
    await store.remove('bench')
    ratios.push(importing / copying)
    console.log(
      `${(size / 1e6).toFixed(0)} MB: three copies ${copying.toFixed(2)} s, import ${importing.toFixed(2)} s ` +
        `(processor ${((user + system) / 1e6).toFixed(2)} s), ratio ${(importing / copying).toFixed(2)}`
    )
  }
  const median = ratios.sort((a, b) => a - b)[Math.floor(ratios.length / 2)]!
  console.log(`median ratio ${median.toFixed(2)} (1 or less: as fast as copying three times)`)
} finally {
  await rm(dir, { recursive: true, force: true })
}

async function durableCopy(to: string): Promise<void> {
  await copyFile(path, to)
  const handle = await open(to, 'r+')
  await handle.sync()
  await handle.close()
}

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await run()
  return (performance.now() - start) / 1000
}
