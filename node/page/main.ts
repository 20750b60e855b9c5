import { render } from 'preact'
import { App } from './app.ts'
import { Chats, type Shelf } from './chats.ts'
import { Connection } from './connection.ts'
import { html } from './html.ts'
import { PagePairing } from './pairing.ts'

const connection = new Connection(location.origin)
// The node answers while the first picture is made.
void connection.follow()
const chats = new Chats(connection, shelf())
const pairing = new PagePairing(connection)
pairing.takeLink(location, history)
// A link that is opened in the tab of the page itself loads nothing anew.
addEventListener('hashchange', () => pairing.takeLink(location, history))
render(
  html`<${App} connection=${connection} chats=${chats} pairing=${pairing} />`,
  document.getElementById('page')!
)

/** The place where conversations are kept; none, if the browser forbids it. */
function shelf(): Shelf {
  try {
    return localStorage
  } catch {
    // Conversations then last as long as the page.
    return { getItem: () => null, setItem: () => {}, removeItem: () => {} }
  }
}
