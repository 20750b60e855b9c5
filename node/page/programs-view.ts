import { useState } from 'preact/hooks'
import { copied } from './copy.ts'
import { html } from './html.ts'

/** Where programs that know these APIs find this node. */
const APIS = [
  { api: 'OpenAI', path: '/v1' },
  { api: 'Anthropic', path: '' },
  { api: 'Ollama', path: '' }
] as const

/** How other programs use this mesh: what they have to be told. */
export function ProgramsView({ origin }: { origin: string }) {
  const [said, setSaid] = useState('')
  const copy = async (api: string, address: string) =>
    setSaid(
      (await copied(address)) ? `Copied: the address for ${api}.` : 'The browser does not let this page copy.'
    )
  return html`<section aria-labelledby="programs-title">
    <h2 id="programs-title">Other programs</h2>
    <details>
      <summary>Use this mesh in another program</summary>
      <p class="hint">Give it the address of the API that it knows, a model's name and, where this node has none, any key.</p>
      <ul class="addresses">
        ${APIS.map(
          ({ api, path }) => html`<li key=${api}>
            <span>${api}</span><code>${origin}${path}</code>
            <button type="button" class="quiet" aria-label=${`Copy the address for ${api}`} onClick=${() => void copy(api, `${origin}${path}`)}>Copy</button>
          </li>`
        )}
      </ul>
      <p class="hint said" role="status">${said}</p>
      <p class="hint">
        For programs such as Claude Code, Codex or aider <code>npx edgeshard launch</code> says all of it. Every route is in${' '}
        <a href="/openapi.json">/openapi.json</a>.
      </p>
    </details>
  </section>`
}
