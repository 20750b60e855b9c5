import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { ModelSummary } from '../api.ts'
import type { ChatSettings, Chats, Conversation, Figures, Message } from './chats.ts'
import type { Connection } from './connection.ts'
import { cut, time, tokensPerSecond } from './format.ts'
import { type Child, html } from './html.ts'
import { markdown } from './markdown.ts'
import { useStore } from './store.ts'

/** Conversations, the one that is open, and where the next question is written. */
export function ChatView({ chats, connection }: { chats: Chats; connection: Connection }) {
  const list = useStore(chats.list)
  const current = useStore(chats.current)
  const conversation = list.find(({ id }) => id === current) ?? list[0]!
  const isRunning = conversation.messages.at(-1)?.state === 'running'
  return html`<section class="chat" aria-labelledby="chat-title">
    <div class="section-head">
      <h2 id="chat-title">Chat</h2>
      <button type="button" onClick=${() => chats.begin()}>New</button>
      ${list.length > 1 && html`<${Chooser} chats=${chats} list=${list} current=${conversation.id} />`}
    </div>
    <${Messages} conversation=${conversation} />
    <p class="visually-hidden" role="status">${spoken(conversation)}</p>
    <${Composer} chats=${chats} conversation=${conversation} isRunning=${isRunning} />
    <${Settings} chats=${chats} connection=${connection} />
  </section>`
}

function Chooser({ chats, list, current }: { chats: Chats; list: readonly Conversation[]; current: string }) {
  const choose = (event: Event) => chats.open((event.target as HTMLSelectElement).value)
  return html`<label class="grow">
      <span class="visually-hidden">Conversation</span>
      <select value=${current} onChange=${choose}>
        ${list.map(
          ({ id, messages }) =>
            html`<option key=${id} value=${id}>${cut(messages[0]?.text ?? 'new conversation', 40)}</option>`
        )}
      </select>
    </label>
    <button type="button" onClick=${() => chats.forget()}>Forget all</button>`
}

/** Said once when an answer is over, for those who do not see it. */
function spoken({ messages }: Conversation): string {
  const last = messages.at(-1)
  if (last?.role !== 'assistant') return ''
  if (last.state === 'running') return 'The answer is being written.'
  return last.state === 'done' ? 'The answer is complete.' : 'The answer ended early.'
}

function Messages({ conversation: { id, messages } }: { conversation: Conversation }) {
  const end = useRef<HTMLOListElement>(null)
  const length = messages.at(-1)?.text.length ?? 0
  // Whenever there is more to read.
  useEffect(() => {
    const element = end.current
    if (element !== null) element.scrollTop = element.scrollHeight
  }, [id, messages.length, length])
  if (messages.length === 0) return html`<p class="hint">Ask the mesh something.</p>`
  return html`<ol class="messages" ref=${end} tabindex="0" aria-label="Messages">
    ${messages.map((message, i) => html`<${MessageView} key=${`${id} ${i}`} message=${message} />`)}
  </ol>`
}

function MessageView({ message }: { message: Message }) {
  const { role, text, state, note, figures } = message
  const body = useMemo((): Child => (role === 'user' ? text : markdown(text)), [role, text])
  return html`<li class=${`message ${role}`} aria-busy=${state === 'running'}>
    <span class="visually-hidden">${role === 'user' ? 'You' : 'Answer'}: </span>
    <div class="text">${body}</div>
    ${note !== undefined && html`<p class=${state === 'failed' ? 'failure' : 'hint'}>${note}</p>`}
    ${state === 'stopped' && html`<p class="hint">stopped</p>`}
    ${figures !== undefined && html`<p class="hint figures">${figuresOf(figures)}</p>`}
  </li>`
}

function figuresOf({ ttftMs, tpotMs, predictedTpotMs, tokens, devices, recoveries }: Figures): string {
  const speed =
    tokens > 1 ? `, ${tokensPerSecond(tpotMs)} (predicted ${tokensPerSecond(predictedTpotMs)})` : ''
  const lost = recoveries === 0 ? '' : `, ${recoveries} lost device${recoveries === 1 ? '' : 's'} replaced`
  return `first token ${time(ttftMs)}${speed}, ${tokens} tokens, by ${devices.join(', ')}${lost}`
}

function Composer({
  chats,
  conversation,
  isRunning
}: {
  chats: Chats
  conversation: Conversation
  isRunning: boolean
}) {
  const [text, setText] = useState('')
  const send = () => {
    if (isRunning || text.trim() === '') return
    setText('')
    void chats.send(text)
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    send()
  }
  const onInput = (event: Event) => setText((event.target as HTMLTextAreaElement).value)
  const isAnswered = conversation.messages.length > 0 && !isRunning
  return html`<form class="composer" onSubmit=${(event: Event) => {
    event.preventDefault()
    send()
  }}>
    <label for="prompt">Your question</label>
    <textarea id="prompt" rows="3" value=${text} onInput=${onInput} onKeyDown=${onKeyDown}></textarea>
    <div class="buttons">
      <button type="submit" class="main" disabled=${isRunning || text.trim() === ''}>Send</button>
      ${isRunning && html`<button type="button" onClick=${() => chats.stop(conversation.id)}>Stop</button>`}
      ${isAnswered && html`<button type="button" onClick=${() => void chats.retry()}>Ask again</button>`}
    </div>
  </form>`
}

function Settings({ chats, connection }: { chats: Chats; connection: Connection }) {
  const settings = useStore(chats.settings)
  const models = useModels(connection)
  const set = (change: Partial<ChatSettings>) => chats.settings.set({ ...settings, ...change })
  const choice = (name: keyof ChatSettings) => ({
    value: settings[name],
    onChange: (event: Event) => set({ [name]: (event.target as HTMLSelectElement).value })
  })
  return html`<details class="settings">
    <summary>Model, wording and privacy</summary>
    <div>
    <label>Model
      <select ...${choice('model')}>
        <option value="">the default</option>
        ${models.map(({ id, name }) => html`<option key=${id} value=${id}>${name} (${id.slice(0, 6)})</option>`)}
      </select>
    </label>
    <label>Placed for
      <select ...${choice('objective')}>
        <option value="latency">the fastest answer</option>
        <option value="throughput">most tokens a second</option>
      </select>
    </label>
    <label>Wording
      <select ...${choice('wording')}>
        <option value="varied">varied</option>
        <option value="likeliest">always the likeliest</option>
      </select>
    </label>
    <label>Privacy
      <select ...${choice('privacy')}>
        <option value="prompt">prompt: first layers here</option>
        <option value="sealed">sealed: head and drawing here, too</option>
      </select>
    </label>
    </div>
  </details>`
}

/** What can be prompted; asked for again when the devices or their models have changed. */
function useModels(connection: Connection): readonly ModelSummary[] {
  const mesh = useStore(connection.mesh)
  const [models, setModels] = useState<readonly ModelSummary[]>([])
  const records = mesh === undefined ? [] : [mesh.self, ...mesh.peers]
  const known = records.map(record => record.models.map(({ id, layers }) => `${id} ${layers}`)).join(';')
  useEffect(() => {
    if (known === '') return
    const abort = new AbortController()
    connection.client.models({ signal: abort.signal }).then(setModels, () => {
      // The list stays as it is: how the connection is stands at the top of the page.
    })
    return () => abort.abort()
  }, [connection, known])
  return models
}
