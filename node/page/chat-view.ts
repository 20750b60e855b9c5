import { useCallback, useMemo } from 'preact/hooks'
import { ChatSettingsView, useModels } from './chat-settings-view.ts'
import type { Chats } from './chats.ts'
import { Composer, toField } from './composer.ts'
import type { Connection } from './connection.ts'
import type { Conversation } from './conversations.ts'
import { ConversationsBar, ManageConversations } from './conversations-view.ts'
import { html } from './html.ts'
import { Messages } from './messages-view.ts'
import { useOf, useStore } from './store.ts'

const EXAMPLES = [
  'What does a thermostat do?',
  'What is a pump?',
  'Tell me a story about a robot and a lamp.'
]

/** Conversations, the one that is open, and where the next question is written. */
export function ChatView({ chats, connection }: { chats: Chats; connection: Connection }) {
  const current = useStore(chats.current)
  // What does not change with each token is not drawn with it.
  const stateOf = useCallback((list: readonly Conversation[]) => shortOf(openOf(list, current)), [current])
  const state = useOf(chats.list, stateOf)
  const models = useModels(connection)
  const [isEmpty, isRunning] = [state === 'empty', state === 'running']
  const composer = useMemo(
    () => html`<${Composer} key=${current} chats=${chats} isRunning=${isRunning} isEmpty=${isEmpty} />`,
    [chats, current, isRunning, isEmpty]
  )
  const settings = useMemo(
    () => html`<${ChatSettingsView} chats=${chats} models=${models ?? []} />`,
    [chats, models]
  )
  const manage = useMemo(() => html`<${ManageConversations} chats=${chats} />`, [chats])
  return html`<section class="chat" aria-labelledby="chat-title">
    <${ConversationsBar} chats=${chats} />
    ${isEmpty ? html`<${Beginning} chats=${chats} hasModel=${models === undefined || models.length > 0} />` : html`<${Open} chats=${chats} />`}
    <p class="visually-hidden" role="status">${SPOKEN[state]}</p>
    ${composer}
    ${settings}
    ${manage}
  </section>`
}

type State = 'empty' | 'asked' | 'running' | 'done' | 'early'

/** Said once when an answer is over, for those who do not see it. */
const SPOKEN: Record<State, string> = {
  empty: '',
  asked: '',
  running: 'The answer is being written.',
  done: 'The answer is complete.',
  early: 'The answer ended early.'
}

function openOf(list: readonly Conversation[], id: string): Conversation {
  return list.find(conversation => conversation.id === id) ?? list[0]!
}

function shortOf({ messages }: Conversation): State {
  const last = messages.at(-1)
  if (last === undefined) return 'empty'
  if (last.role !== 'assistant') return 'asked'
  return last.state === 'running' || last.state === 'done' ? last.state : 'early'
}

function Open({ chats }: { chats: Chats }) {
  const list = useStore(chats.list)
  const current = useStore(chats.current)
  return html`<${Messages} chats=${chats} conversation=${openOf(list, current)} />`
}

/** What stands in an empty conversation: what can be done next. */
function Beginning({ chats, hasModel }: { chats: Chats; hasModel: boolean }) {
  if (!hasModel) {
    return html`<p class="hint">
      No device of this mesh has a model yet. Get one on this device with <code>npx edgeshard pull OWNER/NAME</code>, or from a file with
      <code>npx edgeshard import FILE.gguf --name mine</code>; it is here at once.
    </p>`
  }
  const send = (text: string) => {
    toField()
    void chats.send(text)
  }
  return html`<p class="hint">Ask the mesh something, or one of these:</p>
    <p class="examples">
      ${EXAMPLES.map(text => html`<button type="button" key=${text} onClick=${() => send(text)}>${text}</button>`)}
    </p>`
}
