import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { upCommand } from '../../node/cli/commands/up.ts'
import { configSchema } from '../../node/cli/config-schema.ts'

/** Where the schema of a node's configuration file lies in the package. */
export const SCHEMA_FILE = fileURLToPath(
  new URL('../../node/service/files/config.schema.json', import.meta.url)
)

/** The schema as the options of `up` have it, in the text of a file. */
export function schemaText(): string {
  return `${JSON.stringify(configSchema(upCommand()), null, 2)}\n`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(SCHEMA_FILE, schemaText())
