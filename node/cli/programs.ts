/** What other programs have to be told to use a node, one entry a program; nothing here starts or writes anything. */

/** The node and the model that a program is to use. */
export interface NodeForProgram {
  /** Origin of its API. */
  url: string
  /** Undefined: it asks for none. */
  apiKey: string | undefined
  model: string
  /** Tokens of prompt and answer together. */
  contextLength: number
}

/** How a program is started so that it uses a node. */
export interface ProgramStart {
  command: string
  env: Record<string, string>
  /** Before those that the user gives. */
  args: string[]
}

/** Programs refuse to start without a key; a node that asks for none reads none. */
const NO_KEY = 'none'
/**
 * The variable that holds the key for programs that are told a variable's name; `edgeshard up` does not read it as a key of
 * its own.
 */
const KEY_VARIABLE = 'EDGESHARD_LAUNCH_KEY'
/** Tokens that an answer may have, of the context. */
const ANSWER_SHARE = 1 / 4

type Start = (node: NodeForProgram) => Omit<ProgramStart, 'command'>

/** By the name of the command. */
const PROGRAMS: Readonly<Record<string, Start>> = {
  claude: ({ url, apiKey, model }) => ({
    env: {
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_AUTH_TOKEN: apiKey ?? NO_KEY,
      ANTHROPIC_MODEL: model,
      ANTHROPIC_DEFAULT_OPUS_MODEL: model,
      ANTHROPIC_DEFAULT_SONNET_MODEL: model,
      ANTHROPIC_DEFAULT_HAIKU_MODEL: model,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1'
    },
    args: []
  }),
  codex: ({ url, apiKey, model }) => ({
    env: { [KEY_VARIABLE]: apiKey ?? NO_KEY },
    args: [
      ...setting('model_provider', 'edgeshard'),
      ...setting('model_providers.edgeshard.name', 'EdgeShard'),
      ...setting('model_providers.edgeshard.base_url', `${url}/v1`),
      ...setting('model_providers.edgeshard.env_key', KEY_VARIABLE),
      ...setting('model_providers.edgeshard.wire_api', 'responses'),
      ...['--model', model]
    ]
  }),
  opencode: ({ url, apiKey, model, contextLength }) => ({
    env: {
      [KEY_VARIABLE]: apiKey ?? NO_KEY,
      OPENCODE_CONFIG_CONTENT: JSON.stringify({
        model: `edgeshard/${model}`,
        provider: {
          edgeshard: {
            npm: '@ai-sdk/openai-compatible',
            name: 'EdgeShard',
            options: { baseURL: `${url}/v1`, apiKey: `{env:${KEY_VARIABLE}}` },
            models: {
              [model]: {
                name: model,
                limit: { context: contextLength, output: Math.ceil(contextLength * ANSWER_SHARE) }
              }
            }
          }
        }
      })
    },
    args: []
  }),
  goose: ({ url, apiKey, model }) => ({
    env: {
      GOOSE_PROVIDER: 'openai',
      GOOSE_MODEL: model,
      OPENAI_HOST: url,
      OPENAI_BASE_PATH: 'v1/chat/completions',
      OPENAI_API_KEY: apiKey ?? NO_KEY
    },
    args: []
  }),
  aider: ({ url, apiKey, model }) => ({
    env: { OPENAI_API_BASE: `${url}/v1`, OPENAI_API_KEY: apiKey ?? NO_KEY },
    args: ['--model', `openai/${model}`]
  }),
  qwen: ({ url, apiKey, model }) => ({
    env: { OPENAI_BASE_URL: `${url}/v1`, OPENAI_API_KEY: apiKey ?? NO_KEY, OPENAI_MODEL: model },
    args: []
  })
}

/** Names of the programs that are known. */
export const PROGRAM_NAMES: readonly string[] = Object.keys(PROGRAMS)

/** How that program is started; undefined for one that is not known. */
export function startOf(program: string, node: NodeForProgram): ProgramStart | undefined {
  const start = Object.hasOwn(PROGRAMS, program) ? PROGRAMS[program] : undefined
  return start && { command: program, ...start(node) }
}

/** The same as lines for a shell: sh and its like, or PowerShell. */
export function shellLines({ command, env, args }: ProgramStart, shell: 'sh' | 'powershell'): string[] {
  const set = (name: string, value: string) =>
    shell === 'sh' ? `export ${name}=${quoted(value, shell)}` : `$env:${name} = ${quoted(value, shell)}`
  const words = args.map(arg => (/^[\w./:=-]+$/.test(arg) ? arg : quoted(arg, shell)))
  return [...Object.entries(env).map(([name, value]) => set(name, value)), [command, ...words].join(' ')]
}

/** A setting of Codex, whose values are TOML: a basic string is written as one of JSON. */
function setting(key: string, value: string): string[] {
  return ['--config', `${key}=${JSON.stringify(value)}`]
}

function quoted(text: string, shell: 'sh' | 'powershell'): string {
  return shell === 'sh' ? `'${text.replaceAll("'", `'\\''`)}'` : `'${text.replaceAll("'", "''")}'`
}
