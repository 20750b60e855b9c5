import { writeFile } from 'node:fs/promises'
import type { ChatMessage } from '../api.ts'
import type { Client } from '../client/index.ts'
import { thereIs } from '../there-is.ts'
import { counted } from '../units.ts'
import { clean } from './format.ts'

export const HELP = [
  '"""            begins and ends a message of several lines; what is pasted is',
  '               one message, sent with Enter',
  '/model [NAME]  says which model is asked, or asks another one from now on',
  '/save FILE     writes the conversation as Markdown, or to *.json as JSON',
  '/clear         forgets the conversation',
  '/help          says this',
  '/exit          leaves, as Ctrl-D does; Ctrl-C cancels an answer'
].join('\n')

/** A conversation, as commands in it change it. */
export interface Talk {
  messages: ChatMessage[]
  /** Name or id of the model that is asked; undefined: the default one. */
  model: string | undefined
}

/** What became of a message: it is for the model, it was a command and there is something to say of that, or all is over. */
export type Done = { kind: 'message' } | { kind: 'said'; text: string } | { kind: 'exit' }

/** Carries out a command. Nothing but one word behind a slash, in a line of its own, is one. */
export async function carryOut(
  text: string,
  talk: Talk,
  { node, beginning }: { node: Pick<Client, 'models'>; beginning: () => ChatMessage[] }
): Promise<Done> {
  const [, name, argument = ''] = /^\/([a-z]+)(?: +(.+))?$/.exec(text.trim()) ?? []
  switch (name) {
    case 'exit':
    case 'bye':
      return { kind: 'exit' }
    case 'help':
      return { kind: 'said', text: HELP }
    case 'clear':
      talk.messages = beginning()
      return { kind: 'said', text: '(the conversation is forgotten)' }
    case 'model':
      return { kind: 'said', text: await chooseModel(argument.trim(), talk, node) }
    case 'save':
      return { kind: 'said', text: await save(argument.trim(), talk) }
    case undefined:
      return { kind: 'message' }
    default:
      return { kind: 'said', text: `there is no command /${name}; /help lists them` }
  }
}

async function chooseModel(name: string, talk: Talk, node: Pick<Client, 'models'>): Promise<string> {
  const models = await node.models()
  const there = thereIs(models.map(model => clean(model.name)))
  if (name === '') return `${talk.model ?? 'the default model'} is asked; ${there}`
  const isThere = models.some(model => model.name === name || model.id === name)
  if (!isThere) return `no device of this mesh holds a model called "${clean(name)}"; ${there}`
  talk.model = name
  return `${clean(name)} is asked from now on`
}

async function save(path: string, { messages }: Talk): Promise<string> {
  if (path === '') return 'say where to: /save FILE'
  const text = path.endsWith('.json') ? `${JSON.stringify(messages, null, 2)}\n` : markdownOf(messages)
  try {
    await writeFile(path, text, { flag: 'wx', mode: 0o600 })
    return `the conversation is in ${clean(path)}: ${counted(messages.length, 'message')}`
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'EEXIST' ? `${clean(path)} is there already: say another name` : clean(message)
  }
}

function markdownOf(messages: readonly ChatMessage[]): string {
  return messages.map(({ role, content }) => `**${role}**\n\n${content}\n`).join('\n')
}
