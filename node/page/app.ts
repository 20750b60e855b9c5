import { useEffect, useState } from 'preact/hooks'
import { AnswersView } from './answers-view.ts'
import { ChatView } from './chat-view.ts'
import type { Chats } from './chats.ts'
import type { Connection, Status } from './connection.ts'
import { DevicesView } from './devices-view.ts'
import { html } from './html.ts'
import { LoadsView } from './loads-view.ts'
import { LossesView } from './losses-view.ts'
import type { PagePairing } from './pairing.ts'
import { PairingView } from './pairing-view.ts'
import { PlanView } from './plan-view.ts'
import { ProgramsView } from './programs-view.ts'
import { useStore } from './store.ts'
import { WhatIfView } from './what-if-view.ts'

const SAID: Record<Status, string> = {
  connecting: 'connecting',
  live: 'live',
  lost: 'the node does not answer; trying again',
  key: 'the node asks for its API key',
  refused: 'the node refuses this page'
}

interface AppProps {
  connection: Connection
  chats: Chats
  pairing: PagePairing
}

/** The whole page. */
export function App({ connection, chats, pairing }: AppProps) {
  const status = useStore(connection.status)
  const problem = useStore(connection.problem)
  const mesh = useStore(connection.mesh)
  const count = mesh === undefined ? 0 : 1 + mesh.peers.filter(({ connected }) => connected).length
  const name = mesh?.self.name ?? ''
  // Tabs of several nodes are told apart.
  useEffect(() => {
    document.title = name === '' ? 'EdgeShard' : `${name} – EdgeShard`
  }, [name])
  const devices = count === 0 ? '' : `${count} device${count === 1 ? '' : 's'}, `
  return html`<header>
      <h1>EdgeShard</h1>
      <p role="status" class=${`status ${status}`}>${name === '' ? '' : `${name}: `}${devices}${SAID[status]}</p>
      <button type="button" onClick=${() => pairing.show()}>Another device</button>
    </header>
    <${PairingView} pairing=${pairing} connection=${connection} />
    <main>
      ${status === 'key' && html`<${KeyForm} connection=${connection} />`}
      ${status === 'refused' && html`<p class="failure" role="alert">${problem}</p>`}
      <${LossesView} connection=${connection} />
      <div class="columns">
        <div class="column">
          <${ChatView} chats=${chats} connection=${connection} />
          <${LoadsView} connection=${connection} />
        </div>
        <div class="column">
          <${DevicesView} connection=${connection} />
          <${PlanView} connection=${connection} />
          <${AnswersView} connection=${connection} />
          <${WhatIfView} connection=${connection} />
          <${ProgramsView} origin=${connection.origin} />
        </div>
      </div>
    </main>`
}

/** Asks for the node's key, which stays in the memory of the page. */
function KeyForm({ connection }: { connection: Connection }) {
  const [key, setKey] = useState('')
  const submit = (event: Event) => {
    event.preventDefault()
    if (key !== '') connection.giveKey(key)
  }
  return html`<form class="key" onSubmit=${submit}>
    <label>API key of this node
      <input
        type="password"
        autocomplete="off"
        value=${key}
        onInput=${(event: Event) => setKey((event.target as HTMLInputElement).value.trim())}
      />
    </label>
    <button type="submit" class="main">Use it</button>
    <p class="hint">It is kept in the memory of this page, and forgotten when you leave it.</p>
  </form>`
}
