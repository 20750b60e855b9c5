import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { Chats } from './chats.ts'
import type { Conversation, Figures, Message } from './conversations.ts'
import { copied } from './copy.ts'
import { time, tokensPerSecond, withShortPeerIds } from './format.ts'
import { type Child, html } from './html.ts'
import { GrowingMarkdown } from './markdown.ts'
import { useStore } from './store.ts'

const SAID_MS = 2_000

/** The messages of a conversation. It stays at the end of what is written, unless a person reads further up. */
export function Messages({
  chats,
  conversation: { id, messages }
}: {
  chats: Chats
  conversation: Conversation
}) {
  const box = useRef<HTMLDivElement>(null)
  const [said, say] = useSaid()
  // A person who asks wants to see the answer. The style keeps the end in sight from there on.
  useEffect(() => {
    if (box.current !== null) box.current.scrollTop = 0
  }, [id, messages.length])
  const copy = useCallback(
    async (text: string) =>
      say((await copied(text)) ? 'Copied.' : 'The browser does not let this page copy.'),
    [say]
  )
  // Code is an element of an answer's text: one for all of them hears of its buttons.
  const onClick = ({ target }: Event) => {
    const button = target instanceof Element ? target.closest('.copy-code') : null
    if (button !== null) void copy(button.parentElement?.querySelector('code')?.textContent ?? '')
  }
  return html`<div class="messages" ref=${box} tabindex="0" role="group" aria-label="Messages" onClick=${onClick}>
      <ol class="message-list">
        ${messages.map((message, i) => html`<${MessageItem} key=${`${id} ${i}`} message=${message} at=${i} chats=${chats} copy=${copy} />`)}
      </ol>
    </div>
    <p class="hint said" role="status">${said}</p>`
}

/** Something that is said for a while. */
function useSaid() {
  const [said, setSaid] = useState('')
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  const say = useCallback((text: string) => {
    clearTimeout(timer.current)
    setSaid(text)
    timer.current = setTimeout(() => setSaid(''), SAID_MS)
  }, [])
  return [said, say] as const
}

interface MessageProps {
  message: Message
  /** Its number in the conversation. */
  at: number
  chats: Chats
  copy: (text: string) => void
}

/** A message, looked at again when it has changed: of a long conversation only the answer that grows. */
function MessageItem({ message, at, chats, copy }: MessageProps) {
  return useMemo(
    () => html`<${MessageView} message=${message} at=${at} chats=${chats} copy=${copy} />`,
    [message, at, chats, copy]
  )
}

function MessageView({ message, at, chats, copy }: MessageProps) {
  const { role, text, thought, state, note, figures } = message
  const read = useMemo(() => new GrowingMarkdown(), [])
  const body = useMemo((): Child => (role === 'user' ? text : read.read(text)), [read, role, text])
  const isEdited = useStore(chats.edited) === at
  const isRunning = state === 'running'
  return html`<li class=${`message ${role} ${isEdited ? 'edited' : ''}`} aria-busy=${isRunning}>
    <span class="visually-hidden">${role === 'user' ? 'You' : 'Answer'}: </span>
    ${thought !== undefined && html`<${Thought} text=${thought} isOpen=${isRunning && text === ''} />`}
    <div class="text">${body}</div>
    ${note !== undefined && html`<p class=${state === 'failed' ? 'failure' : 'hint'}>${withShortPeerIds(note)}</p>`}
    ${state === 'stopped' && html`<p class="hint">stopped</p>`}
    ${figures !== undefined && html`<p class="hint figures">${figuresOf(figures)}</p>`}
    ${
      !isRunning &&
      html`<p class="actions">
        ${text !== '' && html`<button type="button" class="quiet" onClick=${() => copy(text)}>Copy</button>`}
        ${role === 'user' && html`<button type="button" class="quiet" onClick=${() => chats.edited.set(at)}>Edit</button>`}
      </p>`
    }
  </li>`
}

/** What a model thought before its answer: open while there is nothing else. */
function Thought({ text, isOpen }: { text: string; isOpen: boolean }) {
  return html`<details class="thought" open=${isOpen}>
    <summary>${isOpen ? 'Thinking' : 'What it thought first'}</summary>
    <p>${text}</p>
  </details>`
}

function figuresOf({ ttftMs, tpotMs, predictedTpotMs, tokens, devices, recoveries }: Figures): string {
  const speed =
    tokens > 1 ? `, ${tokensPerSecond(tpotMs)} (predicted ${tokensPerSecond(predictedTpotMs)})` : ''
  const lost = recoveries === 0 ? '' : `, ${recoveries} lost device${recoveries === 1 ? '' : 's'} replaced`
  return `first token ${time(ttftMs)}${speed}, ${tokens} token${tokens === 1 ? '' : 's'}, by ${devices.join(', ')}${lost}`
}
