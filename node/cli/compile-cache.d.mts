export function nameCompileCache(): string | undefined
export function keepCompiled(): void
