export function asksRunningNode(words: readonly string[]): boolean
export function homeOf(words: readonly string[]): string
