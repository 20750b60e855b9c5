import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The model that ships with the project, laid out as a store: one folder up in a checkout, two when compiled. */
export const BUNDLED_DIR: string = ['../models/bundled', '../../models/bundled']
  .map(path => fileURLToPath(new URL(path, import.meta.url)))
  .reduce((near, far) => (existsSync(near) ? near : far))
