import { useEffect, useRef, useState } from 'preact/hooks'
import type { Chats } from './chats.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

interface Props {
  chats: Chats
  isRunning: boolean
  isEmpty: boolean
}

/** The field in which the next question is written, or an earlier one anew. */
export function Composer({ chats, isRunning, isEmpty }: Props) {
  const [text, setText] = useState('')
  const edited = useStore(chats.edited)
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => {
    if (edited === undefined) return
    setText(chats.conversation.messages[edited]?.text ?? '')
    field.current?.focus()
  }, [chats, edited])
  const cancel = () => {
    chats.edited.set(undefined)
    setText('')
  }
  const stop = () => chats.stop(chats.current.value)
  const send = () => {
    if (isRunning || text.trim() === '') return
    setText('')
    void chats.send(text)
  }
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Escape' && (isRunning || edited !== undefined)) {
      if (isRunning) stop()
      else cancel()
    }
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    send()
  }
  const onInput = (event: Event) => setText((event.target as HTMLTextAreaElement).value)
  return html`<form class="composer" onSubmit=${(event: Event) => {
    event.preventDefault()
    send()
  }}>
    <label for="prompt">${edited === undefined ? 'Your question' : 'Your question, anew: what follows it is forgotten'}</label>
    <textarea id="prompt" rows="2" aria-describedby="keys" ref=${field} value=${text} onInput=${onInput} onKeyDown=${onKeyDown}></textarea>
    <div class="buttons">
      <button type="submit" class="main" disabled=${isRunning || text.trim() === ''}>Send</button>
      ${isRunning && html`<button type="button" onClick=${stop}>Stop</button>`}
      ${edited !== undefined && html`<button type="button" onClick=${cancel}>Leave it</button>`}
      ${!isEmpty && !isRunning && edited === undefined && html`<button type="button" onClick=${() => void chats.retry()}>Ask again</button>`}
      <span class="hint" id="keys">Enter sends, Shift+Enter begins a line, Escape stops.</span>
    </div>
  </form>`
}
