import type { ModelSummary } from '../api.ts'

/** What a client asks for a model by: its name, unless that is the name of others of the list, too; then its id. */
export function askedAs({ name, id }: ModelSummary, models: readonly ModelSummary[]): string {
  return models.some(other => other.name === name && other.id !== id) ? id : name
}
