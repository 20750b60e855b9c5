import { useCallback, useRef, useState } from 'preact/hooks'
import type { Chats } from './chats.ts'
import { toField } from './composer.ts'
import { type Conversation, MAX_KEPT_CHARS, titleOf } from './conversations.ts'
import { cut } from './format.ts'
import { html } from './html.ts'
import { useOf, useStore } from './store.ts'

const MAX_TITLE_CHARS = 40
const ALL = 'all'

/** Which conversation is open, and which others there are. */
export function ConversationsBar({ chats }: { chats: Chats }) {
  const current = useStore(chats.current)
  // As a text, which is the same while an answer only grows.
  const titles = useOf(chats.list, titlesOf)
  const list = JSON.parse(titles) as { id: string; title: string }[]
  const choose = (event: Event) => chats.open((event.target as HTMLSelectElement).value)
  return html`<div class="section-head">
      <h2 id="chat-title">Chat</h2>
      <button type="button" onClick=${() => chats.begin()}>New</button>
      ${
        list.length > 1 &&
        html`<label class="grow">
          <span class="visually-hidden">Conversation</span>
          <select value=${current} onChange=${choose}>
            ${list.map(({ id, title }) => html`<option key=${id} value=${id}>${title}</option>`)}
          </select>
        </label>`
      }
    </div>`
}

function titlesOf(list: readonly Conversation[]): string {
  return JSON.stringify(
    list.map(conversation => ({ id: conversation.id, title: cut(titleOf(conversation), MAX_TITLE_CHARS) }))
  )
}

/** Naming, deleting, and files of conversations: seldom wanted, so a click away. */
export function ManageConversations({ chats }: { chats: Chats }) {
  const isEmpty = useOf(chats.list, hasNone)
  const [said, setSaid] = useState('')
  /** What is to be forgotten, once a person says so again: a conversation by its id, or all. */
  const [asked, ask] = useState<string>()
  const file = useRef<HTMLInputElement>(null)
  const current = useStore(chats.current)
  const titleOfOpen = useCallback(
    (list: readonly Conversation[]) => list.find(({ id }) => id === current)?.title ?? '',
    [current]
  )
  const title = useOf(chats.list, titleOfOpen)
  const take = async (event: Event) => {
    const [chosen] = (event.target as HTMLInputElement).files ?? []
    if (chosen === undefined) return
    // A character may take four bytes.
    const isSmall = chosen.size <= 4 * MAX_KEPT_CHARS
    const imported = isSmall ? chats.import(await chosen.text()) : { found: 0, taken: 0 }
    setSaid(saidOf(cut(chosen.name, MAX_TITLE_CHARS), imported))
    if (file.current !== null) file.current.value = ''
  }
  const forget = () => {
    if (asked === ALL) chats.forget()
    else chats.remove()
    ask(undefined)
  }
  return html`<details class="manage">
    <summary>Name, delete or export conversations</summary>
    <label>Name of this conversation
      <input value=${title} placeholder="its first question" maxlength="200" onChange=${(event: Event) => chats.rename((event.target as HTMLInputElement).value)} />
    </label>
    <div class="buttons">
      <button type="button" disabled=${isEmpty} onClick=${() => ask(current)}>Delete it</button>
      <button type="button" disabled=${isEmpty} onClick=${() => save(chats.exported)}>Export all</button>
      <button type="button" onClick=${() => file.current?.click()}>Import</button>
      <input ref=${file} type="file" accept="application/json,.json" hidden aria-label="File of conversations" onChange=${take} />
      <button type="button" disabled=${isEmpty} onClick=${() => ask(ALL)}>Forget all</button>
    </div>
    ${(asked === ALL || asked === current) && html`<${Sure} isAll=${asked === ALL} onSure=${forget} onKeep=${() => ask(undefined)} />`}
    ${said !== '' && html`<p class="failure" role="alert">${said}</p>`}
    <p class="hint">Conversations are kept in this browser and nowhere else.</p>
  </details>`
}

/** Asked before what nobody brings back: conversations are kept here and nowhere else. */
function Sure({ isAll, onSure, onKeep }: { isAll: boolean; onSure: () => void; onKeep: () => void }) {
  const done = (then: () => void) => () => {
    toField()
    then()
  }
  return html`<div class="buttons" role="alert">
    <span>${isAll ? 'Forget all conversations and settings for good?' : 'Delete the open conversation for good?'}</span>
    <button type="button" onClick=${done(onSure)}>${isAll ? 'Forget them' : 'Delete it for good'}</button>
    <button type="button" onClick=${done(onKeep)}>Keep ${isAll ? 'them' : 'it'}</button>
  </div>`
}

/** What a person is told of an import; empty where all of the file was taken. */
export function saidOf(file: string, { found, taken }: ReturnType<Chats['import']>): string {
  if (found === 0) return `${file} is no file of conversations, or too large a one.`
  if (taken === found) return ''
  const some = taken === 0 ? 'none' : taken
  return `Of ${found} conversation${found === 1 ? '' : 's'} in ${file} ${some} could be taken: the page has no room for more. Delete some first.`
}

function hasNone(list: readonly Conversation[]): boolean {
  return list.every(({ messages }) => messages.length === 0)
}

/** Has the browser save a text as a file. */
function save(text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
  const link = document.createElement('a')
  link.href = url
  link.download = 'edgeshard-conversations.json'
  link.click()
  URL.revokeObjectURL(url)
}
