import { posix } from 'node:path'

const IMPORT = /^import\s+(?:(?:\{([^}]*)\}|([\w$]+))\s+from\s+)?['"]([^'"]+)['"];?/gm
const EXPORT_ALL = /^export\s+\*\s+from\s+['"]([^'"]+)['"];?/gm
const EXPORT = /^export\s+(?=(?:async\s+)?(?:function\s*\*?|class|const)\s+([\w$]+))/gm
/** What the compiler leaves of a module that exports types alone. */
const EXPORT_NOTHING = /^export\s*\{\s*\};?/gm

/**
 * One module of a module and all that it imports by relative paths, each in a function of its own, in the order in which
 * they would be run: a browser asks once instead of for each. Libraries stay imports. Only the forms that are used in the
 * page are known, and no cycles: whatever else is there throws, when the page is first asked for.
 *
 * @param read the code of a module, without types, by its path
 */
export async function oneModule(entry: string, read: (path: string) => Promise<string>): Promise<string> {
  const libraries = new Map<string, string>()
  const modules = new Map<string, string>()
  const parts: string[] = []
  const begun = new Set<string>()
  const add = async (path: string): Promise<void> => {
    if (modules.has(path)) return
    if (begun.has(path)) throw new Error(`${path} comes to import itself`)
    begun.add(path)
    const code = await read(path)
    const named = async (specifier: string): Promise<string> => {
      if (!specifier.startsWith('.')) {
        if (!libraries.has(specifier)) libraries.set(specifier, `library${libraries.size}`)
        return libraries.get(specifier)!
      }
      const imported = posix.join(posix.dirname(path), specifier)
      await add(imported)
      return modules.get(imported)!
    }
    const names = new Map<string, string>()
    const specifiers = [
      ...[...code.matchAll(IMPORT)].map(match => match[3]!),
      ...[...code.matchAll(EXPORT_ALL)].map(match => match[1]!)
    ]
    for (const specifier of specifiers) names.set(specifier, await named(specifier))
    const name = `module${modules.size}`
    modules.set(path, name)
    parts.push(`// ${path}\nconst ${name} = (() => {\n${scoped(path, code, names)}\n})()\n`)
  }
  await add(entry)
  const imports = [...libraries].map(([specifier, name]) => `import * as ${name} from '${specifier}'\n`)
  return [...imports, ...parts].join('')
}

/** The body of a function that does what the module does and returns what it exports. */
function scoped(path: string, code: string, names: ReadonlyMap<string, string>): string {
  const exported: string[] = []
  const body = code
    .replace(IMPORT, (_, list: string | undefined, whole: string | undefined, specifier: string) => {
      const name = names.get(specifier)!
      if (whole !== undefined) return `const { default: ${whole} } = ${name}`
      return list === undefined ? '' : `const { ${list.replace(/\s+as\s+/g, ': ')} } = ${name}`
    })
    .replace(EXPORT_ALL, (_, specifier: string) => {
      exported.push(`...${names.get(specifier)!}`)
      return ''
    })
    .replace(EXPORT, (_, name: string) => {
      exported.push(name)
      return ''
    })
    .replace(EXPORT_NOTHING, '')
  const other = /^(?:import|export)\b.*/m.exec(body)
  if (other !== null) throw new Error(`${path} has what the page does not know: ${other[0]}`)
  return `${body}\nreturn { ${exported.join(', ')} }`
}
