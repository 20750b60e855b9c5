import type { Command } from 'commander'
import { fileSettings } from './settings.ts'

/** The JSON Schema of a command's configuration file, for editors and whatever else checks one before a node reads it. */
export function configSchema(command: Command): Record<string, unknown> {
  const options = fileSettings(command).map(({ name, description, schema }) => [
    name,
    { description, ...schema }
  ])
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `Options of edgeshard ${command.name()}`,
    type: 'object',
    additionalProperties: false,
    properties: { $schema: { type: 'string' }, ...Object.fromEntries(options) }
  }
}
