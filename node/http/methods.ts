/** A route as the framework lists it. */
interface Route {
  method: string
  path: string
}

/** Says of a path which methods there are for it; none where there is no such path. */
export function methodsOf(routes: readonly Route[]): (path: string) => string[] {
  const patterns = routes
    .filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => ({ method, pattern: patternOf(path) }))
  return path => {
    const found = patterns.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method)
    const withHead = found.includes('GET') ? [...found, 'HEAD'] : found
    return [...new Set(withHead)].sort()
  }
}

/** `/models/:name{.+}` as a regular expression. */
function patternOf(path: string): RegExp {
  const parts = path.split(/(:\w+(?:\{[^}]+\})?)/).map((part, i) => {
    if (i % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    return /\{(.+)\}/.exec(part)?.[1] ?? '[^/]+'
  })
  return new RegExp(`^${parts.join('')}$`)
}
