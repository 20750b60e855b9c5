import { useEffect, useRef, useState } from 'preact/hooks'
import type { JoinCommand, MeshState } from '../api.ts'
import type { Connection } from './connection.ts'
import { clock, shortId } from './format.ts'
import { html } from './html.ts'
import type { Ended, PagePairing, Step } from './pairing.ts'
import { useStore } from './store.ts'

interface Props {
  pairing: PagePairing
  connection: Connection
}

/** The dialog that lets another device in. */
export function PairingView({ pairing, connection }: Props) {
  const isShown = useStore(pairing.isShown)
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    if (isShown) dialog.current?.showModal()
    else dialog.current?.close()
  }, [isShown])
  return html`<dialog ref=${dialog} aria-labelledby="pairing-title" onClose=${() => pairing.hide()}>
    ${isShown && html`<${Content} pairing=${pairing} connection=${connection} />`}
  </dialog>`
}

function Content({ pairing, connection }: Props) {
  const step = useStore(pairing.step)
  const problem = useStore(pairing.problem)
  return html`<div class="section-head">
      <h2 id="pairing-title" class="grow">Another device</h2>
      <button type="button" onClick=${() => pairing.hide()}>Close</button>
    </div>
    <ol>
      <li>
        Have EdgeShard on it, with Node 20 or newer: the project's folder after <code>npm ci</code>, or its package, installed.
      </li>
      <li>Type there <code>${step.is === 'open' ? step.join.command : 'npx edgeshard join'}</code>, and the six digits that are shown here.</li>
      <li>Then <code>npx edgeshard up</code>, and it is in this list of devices.</li>
    </ol>
    <${Now} step=${step} pairing=${pairing} connection=${connection} />
    ${problem !== '' && html`<p class="failure" role="alert">${problem}</p>`}`
}

function Now({ step, pairing, connection }: Props & { step: Step }) {
  switch (step.is) {
    case 'locked':
      return html`<${Locked} pairing=${pairing} />`
    case 'ready':
      return html`<button type="button" class="main" onClick=${() => void pairing.open()}>Show six digits</button>`
    case 'open':
      return html`<${Digits} step=${step} pairing=${pairing} />`
    case 'ended':
      return html`<${Outcome} end=${step.state} connection=${connection} />
        <button type="button" class="main" onClick=${() => void pairing.open()}>
          ${step.state.end === 'paired' ? 'One more device' : 'Show other digits'}
        </button>`
  }
}

/** A page lets nobody in because it is open: a person shows that it is one of this device. */
function Locked({ pairing }: { pairing: PagePairing }) {
  const [code, setCode] = useState('')
  const submit = (event: Event) => {
    event.preventDefault()
    if (code.trim() !== '') void pairing.unlock(code)
  }
  return html`<form onSubmit=${submit} class="unlock">
    <p>
      That this page may let devices in is for a person to say: type <code>npx edgeshard page</code> in a terminal of this device, and
      open the link, or give the code here. (<code>npx edgeshard pair</code> shows digits right there.)
    </p>
    <label>Code
      <input autocomplete="off" spellcheck=${false} value=${code} onInput=${(event: Event) => setCode((event.target as HTMLInputElement).value)} />
    </label>
    <button type="submit" class="main">Let this page pair</button>
  </form>`
}

function Digits({ step, pairing }: { step: Extract<Step, { is: 'open' }>; pairing: PagePairing }) {
  const { code, leftMs, triesLeft, from } = step.state
  const tries = triesLeft === 1 ? 'one try is left' : `${triesLeft} tries are left`
  return html`<p class="digits" aria-label=${`Digits: ${[...code].join(' ')}`} role="img">${code.slice(0, 3)} ${code.slice(3)}</p>
    <p role="timer">Good for one device and ${clock(leftMs)} more.</p>
    <p role="status" class=${from === undefined ? 'hint' : 'failure'}>
      ${
        from === undefined
          ? `Nobody has typed digits yet; ${tries}.`
          : `Refused: a device at ${from} typed other digits; ${tries}. Where that was nobody of yours, stop.`
      }
    </p>
    <${Qr} join=${step.join} />
    <button type="button" onClick=${() => void pairing.close()}>Stop</button>`
}

/** What is typed on the other device, for its camera; the digits are not in it. */
function Qr({ join: { command, qr } }: { join: JoinCommand }) {
  return html`<svg class="qr" viewBox=${`0 0 ${qr.size} ${qr.size}`} shape-rendering="crispEdges" role="img" aria-label=${`QR code: ${command}`}>
    <path class="light" d=${`M0 0h${qr.size}v${qr.size}H0z`} />
    <path class="dark" d=${qr.path} />
  </svg>`
}

function Outcome({ end, connection }: { end: Ended; connection: Connection }) {
  const mesh = useStore(connection.mesh)
  return html`<p role="status" class=${end.end === 'paired' ? 'headline' : 'failure'}>${outcomeOf(end, mesh)}</p>`
}

/** What became of the digits, for whoever showed them. */
export function outcomeOf({ end, device = '', from }: Ended, mesh: MeshState | undefined): string {
  const at = from === undefined ? '' : ` at ${from}`
  switch (end) {
    case 'paired': {
      const joined = mesh?.peers.find(({ peerId, connected }) => peerId === device && connected)
      if (joined !== undefined) return `${joined.name} (${shortId(device)}) is in, and connected.`
      return `Confirmed: the device ${shortId(device)}${at} typed the digits and may join. It is here when its node runs.`
    }
    case 'failed':
      return `The device ${shortId(device)}${at} typed the digits, but no ticket could be made for it: the node says why. These digits are good no more.`
    case 'tries':
      return `Refused: wrong digits came three times${at === '' ? '' : `, the last time from a device${at}`}, or too many called. These digits are good no more. Where nobody mistyped, somebody guesses.`
    case 'expired':
      return 'The two minutes are over; these digits are good no more.'
    default:
      return 'It was stopped, or opened anew elsewhere; these digits are good no more.'
  }
}
