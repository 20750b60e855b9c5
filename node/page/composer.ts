import { useEffect, useRef, useState } from 'preact/hooks'
import type { Chats } from './chats.ts'
import { cut } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'
import { MAX_FILE_BYTES, MAX_FILE_CHARS, withFile } from './text-file.ts'

const FIELD_ID = 'prompt'
/** Characters of a file’s name that a person is shown. */
const MAX_NAME_CHARS = 40

/**
 * Takes a person who presses a button by the keyboard to the field, before that button goes away under it. Whoever points is left
 * where they are: on a phone the field would bring up its keyboard.
 */
export function toField(): void {
  if (document.activeElement?.matches('button:focus-visible')) document.getElementById(FIELD_ID)?.focus()
}

interface Props {
  chats: Chats
  isRunning: boolean
  isEmpty: boolean
}

/** The field in which the next question is written, or an earlier one anew. */
export function Composer({ chats, isRunning, isEmpty }: Props) {
  const [text, setText] = useState('')
  const edited = useStore(chats.edited)
  const [problem, setProblem] = useState('')
  const field = useRef<HTMLTextAreaElement>(null)
  const file = useRef<HTMLInputElement>(null)
  useEffect(() => {
    if (edited === undefined) return
    setText(chats.conversation.messages[edited]?.text ?? '')
    field.current?.focus()
  }, [chats, edited])
  const cancel = () => {
    toField()
    chats.edited.set(undefined)
    setText('')
  }
  const stop = () => {
    toField()
    chats.stop(chats.current.value)
  }
  const send = () => {
    if (isRunning || text.trim() === '') return
    toField()
    setText('')
    void chats.send(text)
  }
  const again = () => {
    toField()
    void chats.retry()
  }
  const isEscaped = isRunning || edited !== undefined
  // It is heard wherever the focus is: a button that is pressed to send has it no more.
  useEffect(() => {
    if (!isEscaped) return
    const onEscape = ({ key, target, isComposing }: KeyboardEvent) => {
      // The key leaves what an input method is composing, and nothing else.
      if (key !== 'Escape' || isComposing) return
      if (target instanceof Element && target.closest('dialog, select') !== null) return
      if (isRunning) stop()
      else cancel()
    }
    document.addEventListener('keydown', onEscape)
    return () => document.removeEventListener('keydown', onEscape)
  }, [chats, isEscaped, isRunning])
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    send()
  }
  const take = async ({ target }: Event) => {
    const input = target as HTMLInputElement
    const [chosen] = input.files ?? []
    if (chosen === undefined) return
    // One that cannot be read, such as a folder, is refused like one that is no text.
    const read = chosen.size > MAX_FILE_BYTES ? undefined : await chosen.text().catch(() => undefined)
    input.value = ''
    const name = cut(chosen.name, MAX_NAME_CHARS)
    const isText = read !== undefined && withFile('', chosen.name, read) !== undefined
    setProblem(isText ? '' : `${name} is no text, or more than ${MAX_FILE_CHARS} characters of it.`)
    if (isText) {
      chats.writes()
      setText(old => withFile(old, chosen.name, read) ?? old)
    }
    field.current?.focus()
  }
  const onInput = (event: Event) => {
    chats.writes()
    setText((event.target as HTMLTextAreaElement).value)
  }
  const onSubmit = (event: Event) => {
    event.preventDefault()
    send()
  }
  return html`<form class="composer" onSubmit=${onSubmit}>
    <label for=${FIELD_ID}>${edited === undefined ? 'Your question' : 'Your question, anew: what follows it is forgotten'}</label>
    <textarea id=${FIELD_ID} rows="2" aria-describedby="keys" ref=${field} value=${text} onInput=${onInput} onKeyDown=${onKeyDown}></textarea>
    <div class="buttons">
      <button type="submit" class="main" disabled=${isRunning || text.trim() === ''}>Send</button>
      ${isRunning && html`<button type="button" onClick=${stop}>Stop</button>`}
      ${edited !== undefined && html`<button type="button" onClick=${cancel}>Leave it</button>`}
      ${!isEmpty && !isRunning && edited === undefined && html`<button type="button" onClick=${again}>Ask again</button>`}
      <button type="button" onClick=${() => file.current?.click()}>Add a text file</button>
      <input ref=${file} type="file" accept="text/*,.md,.csv,.json,.log,.xml,.yaml,.yml" hidden aria-label="Text file for the question" onChange=${take} />
      <span class="hint" id="keys">Enter sends, Shift+Enter begins a line, Escape stops.</span>
    </div>
    ${problem !== '' && html`<p class="failure" role="alert">${problem}</p>`}
  </form>`
}
