/** Writes node/plan/PAPER.md: `node test/bench/plan-paper.ts`. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { paperPage } from './plan-paper-page.ts'

writeFileSync(join(import.meta.dirname, '..', '..', 'node', 'plan', 'PAPER.md'), paperPage())
