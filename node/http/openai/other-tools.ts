import { fieldOf } from '../unknown-fields.ts'

/** Tools of the responses API that a server carries out itself, or that are not called with arguments of JSON. */
const OTHER_KINDS: ReadonlySet<unknown> = new Set([
  ...['web_search', 'web_search_2025_08_26', 'web_search_preview', 'web_search_preview_2025_03_11'],
  ...['file_search', 'code_interpreter', 'image_generation', 'mcp', 'tool_search'],
  ...['computer', 'computer_use_preview', 'local_shell', 'shell', 'apply_patch', 'custom', 'namespace']
])

/**
 * A body without the tools that are not offered to the model here. Agents name such beside the functions that they work with, and
 * go on without. A request that has nothing else is about them: it stays as it is, and is refused.
 *
 * @returns which kinds were left out, as fields
 */
export function withoutOtherTools(body: unknown): { body: unknown; leftOut: string[] } {
  const tools = fieldOf(body, 'tools')
  if (!Array.isArray(tools)) return { body, leftOut: [] }
  const kinds = tools.map(tool => fieldOf(tool, 'type'))
  const others = new Set(kinds.filter(kind => OTHER_KINDS.has(kind)))
  if (others.size === 0 || !kinds.includes('function')) return { body, leftOut: [] }
  return {
    body: { ...(body as object), tools: tools.filter((_, i) => !others.has(kinds[i])) },
    leftOut: [...others].map(kind => `tools.${kind}`)
  }
}
