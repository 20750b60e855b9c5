import { useEffect, useState } from 'preact/hooks'
import type { ModelSummary } from '../api.ts'
import type { ChatSettings } from './chat-settings.ts'
import type { Chats } from './chats.ts'
import type { Connection } from './connection.ts'
import { bytes } from './format.ts'
import { html } from './html.ts'
import { useStore } from './store.ts'

/** How the questions of all conversations are asked. */
export function ChatSettingsView({ chats, models }: { chats: Chats; models: readonly ModelSummary[] }) {
  const settings = useStore(chats.settings)
  const field = (name: keyof ChatSettings) => ({
    value: settings[name],
    onChange: (event: Event) => chats.set({ [name]: (event.target as HTMLInputElement).value })
  })
  return html`<details class="settings">
    <summary>Model, wording and privacy</summary>
    <div>
    <label>Model
      <select ...${field('model')}>
        <option value="">the default</option>
        ${models.map(({ id, name, weightBytes }) => html`<option key=${id} value=${id}>${name} (${id.slice(0, 6)}), ${bytes(weightBytes)}</option>`)}
      </select>
    </label>
    <label>Placed for
      <select ...${field('objective')}>
        <option value="latency">the fastest answer</option>
        <option value="throughput">most tokens a second</option>
      </select>
    </label>
    <label>Privacy
      <select ...${field('privacy')}>
        <option value="prompt">prompt: first layers here</option>
        <option value="sealed">sealed: head and drawing here, too</option>
      </select>
    </label>
    <label>Wording
      <select ...${field('wording')}>
        <option value="varied">varied</option>
        <option value="likeliest">always the likeliest</option>
      </select>
    </label>
    ${settings.wording === 'varied' && html`<label>Temperature, 0 to 2<input type="number" min="0" max="2" step="any" placeholder="as the node has it" ...${field('temperature')} /></label>`}
    <label>Tokens at most<input type="number" min="1" step="1" placeholder="as many as fit" ...${field('maxTokens')} /></label>
    </div>
    <label>Instructions to the model, before each conversation
      <textarea rows="2" ...${field('instructions')}></textarea>
    </label>
    <p class="hint">Another model: <code>npx edgeshard pull OWNER/NAME</code> on this device, or <code>npx edgeshard import FILE</code>; it is here at once.</p>
  </details>`
}

/** What can be prompted; undefined until that is known. Asked for again when the devices or their models have changed. */
export function useModels(connection: Connection): readonly ModelSummary[] | undefined {
  const mesh = useStore(connection.mesh)
  const [models, setModels] = useState<readonly ModelSummary[]>()
  const records = mesh === undefined ? [] : [mesh.self, ...mesh.peers]
  const known = records.map(record => record.models.map(({ id, layers }) => `${id} ${layers}`)).join(';')
  const isKnown = mesh !== undefined
  useEffect(() => {
    if (!isKnown) return
    const abort = new AbortController()
    connection.client.models({ signal: abort.signal }).then(setModels, () => {
      // The list stays as it is: how the connection is stands at the top of the page.
    })
    return () => abort.abort()
  }, [connection, isKnown, known])
  return models
}
