/**
 * What rounding costs: perplexity of stories260K on the TinyStories sample, for each precision and block size, and of its weights as
 * 8-bit floats, as they are and as the importer rounds them.
 *
 *     node test/bench/quantization-perplexity.ts [folder of a checkpoint] [text file]
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importModel } from '../../models/import/import-model.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import { ModelStore } from '../../models/store/store.ts'
import { encodeText, perplexityOf } from '../fixtures/perplexity.ts'
import { sharedData } from '../fixtures/shared-data.ts'
import { writeFp8Folder } from './fp8-folder.ts'

const [checkpoint = sharedData('stories260k/hf'), file = sharedData('text/tinystories-197k.txt')] =
  process.argv.slice(2)
const text = await readFile(file, 'utf8')
const PRECISIONS = [
  { quantize: 'none' },
  ...([32, 64, 128] as const).map(blockSize => ({ quantize: 'q8', blockSize }) as const),
  ...([32, 64, 128] as const).map(blockSize => ({ quantize: 'q4', blockSize }) as const)
] as const

const scratch = await mkdtemp(join(tmpdir(), 'edgeshard-bench-'))
const fp8 = join(scratch, 'fp8')
await writeFp8Folder(checkpoint, fp8)
const CASES = [
  ...PRECISIONS.map(precision => ({ what: nameOf(precision), from: checkpoint, precision })),
  { what: 'FP8 in tiles of 128, its own values', from: fp8, precision: { quantize: 'none' } as const },
  { what: 'FP8 in tiles of 128, as imported', from: fp8, precision: {} }
]

for (const { what, from, precision } of CASES) {
  const dir = await mkdtemp(join(tmpdir(), 'edgeshard-bench-'))
  const store = await ModelStore.open(dir)
  const model = await importModel(from, store, { name: 'measured', ...precision })
  const { manifest } = model
  const bytes = weightBytes(manifest, [0, manifest.layers.length])
  const perplexity = await perplexityOf(manifest, store.blobsDir, await encodeText(store, model, text))
  console.log(`${what}: perplexity ${perplexity.toFixed(3)}, ${(bytes / 1e6).toFixed(2)} MB`)
  await rm(dir, { recursive: true })
}
await rm(scratch, { recursive: true })

function nameOf(precision: (typeof PRECISIONS)[number]): string {
  const blocks = 'blockSize' in precision ? `, blocks of ${precision.blockSize}` : ''
  return `${precision.quantize}${blocks}`
}
