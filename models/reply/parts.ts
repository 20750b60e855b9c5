/** A piece of what a model writes, taken apart. Text, thoughts and arguments come in pieces of any size. */
export type ReplyPart =
  | { kind: 'text'; text: string }
  /** What it thinks before it answers. */
  | { kind: 'reasoning'; text: string }
  /** A call begins; calls are counted from 0. `id`: where the model gave it one. */
  | { kind: 'call'; index: number; name: string; id?: string }
  /** The next piece of the call's arguments: all of them together are one JSON object. */
  | { kind: 'arguments'; index: number; text: string }
  /** The call's arguments are whole. */
  | { kind: 'called'; index: number }
  /** What had begun as a call is none; `text` is all of it as it was written. */
  | { kind: 'broken'; index: number; text: string }

/** How a model writes calls of tools. */
export type CallSyntax =
  /** `<tool_call>{"name", "arguments"}</tool_call>`: Hermes, Qwen 2.5 and 3. */
  | 'hermes'
  /** The reply is `{"name", "parameters"}`: Llama 3. */
  | 'llama3'
  /** `[TOOL_CALLS][{"name", "arguments"}]`, or `[TOOL_CALLS]NAME[ARGS]{}`: Mistral. */
  | 'mistral'
  /** Channels with recipients: gpt-oss. */
  | 'harmony'
  /** `<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME` and a block of JSON: DeepSeek. */
  | 'deepseek'
  /** `<tool_call>NAME<arg_key>K</arg_key><arg_value>V</arg_value></tool_call>`: GLM 4.5. */
  | 'glm'
  /** `<tool_call><function=NAME><parameter=K>V</parameter></function></tool_call>`: Qwen3-Coder, Qwen3.5, Nemotron 3, Seed-OSS. */
  | 'parameters'
  /** The reply is `{"name", "arguments"}`, or a list of them: what a model is told whose template knows no tools. */
  | 'json'

/** How a model's replies are to be read. */
export interface ReplySyntax {
  calls: CallSyntax
  /** What a thought stands between; undefined where the model has none. */
  thoughts: readonly [open: string, close: string] | undefined
}
