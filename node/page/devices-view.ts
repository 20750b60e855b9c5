import { useEffect, useMemo, useState } from 'preact/hooks'
import type { MeshState } from '../api.ts'
import { type Activity, isOver } from './activity.ts'
import type { Connection } from './connection.ts'
import { type Device, devicesOf, howKnown, isUnsure, type Link, linksOf, nameOf, OLD_MS } from './devices.ts'
import { bytes, bytesOf, layerRange, rate, shortId, time } from './format.ts'
import { Graph } from './graph.ts'
import { html } from './html.ts'
import { MemoryBar } from './memory-bar.ts'
import { useOf, useStore } from './store.ts'

/** More devices than this are a list alone. */
const MAX_DRAWN = 16
const MINUTE_MS = 60_000

/** The devices and how fast the links between them are, drawn and as tables. */
export function DevicesView({ connection }: { connection: Connection }) {
  const mesh = useStore(connection.mesh)
  const devices = useMemo(() => (mesh === undefined ? [] : devicesOf(mesh)), [mesh])
  const lost = useOf(connection.activity, lostNow)
  useMinutes()
  const links = mesh === undefined ? [] : linksOf(mesh, devices, link => connection.ageOf(link))
  if (mesh === undefined) return null
  return html`<section aria-labelledby="devices-title">
    <h2 id="devices-title">Devices</h2>
    ${
      devices.length <= MAX_DRAWN
        ? html`<${Graph} devices=${devices} lost=${lost} links=${links} connection=${connection} />`
        : html`<p class="hint">${devices.length} devices are too many to draw; here they are as a list.</p>`
    }
    ${devices.length === 1 && html`<p class="hint">Only this device so far. “Another device”, above, says how the next one comes in.</p>`}
    <${Legend} links=${links} />
    <${Unreached} mesh=${mesh} />
    <details open=${devices.length > MAX_DRAWN}>
      <summary>Devices as a table</summary>
      <${DeviceTable} devices=${devices} />
    </details>
    <details>
      <summary>Links as a table</summary>
      <${LinkTable} devices=${devices} links=${links} />
    </details>
  </section>`
}

/** Ids of devices that are lost under an answer and not replaced yet, as a text: the directory hears of it a little later. */
function lostNow({ losses }: Activity): string {
  const open = losses.filter(loss => !isOver(loss))
  return open.map(({ peerId }) => peerId).join(' ')
}

/** What colours and lines stand for; of the links only what there is. */
function Legend({ links }: { links: readonly Link[] }) {
  const measured = links.flatMap(({ there, back }) => [there, back]).filter(link => link !== undefined)
  const isUnder = measured.some(isUnsure)
  const isAged = measured.some(({ ageMs }) => ageMs > OLD_MS)
  return html`<p class="hint legend">
    Memory: <span class="weights">weights</span> <span class="other">KV cache and others</span> <span class="idle">kept warm</span>
    </p>
    ${
      (isUnder || isAged) &&
      html`<p class="hint legend">
        Links:
        ${isUnder && html` <span class="unsure">measured under load</span>`}
        ${isAged && html` <span class="dashed">measured long ago</span>`}
      </p>`
    }`
}

function Unreached({ mesh: { unreached, copies } }: { mesh: MeshState }) {
  return html`${unreached.map(
    ({ peerId, name }) =>
      html`<p class="failure" key=${peerId}>
        ${name === '' ? shortId(peerId) : name} is in the mesh, but this node cannot reach it: something between the two blocks it.
      </p>`
  )}
  ${copies.map(
    ({ name, address }) =>
      html`<p class="failure" key=${address}>${name ?? 'A device'} at ${address} runs with a copy of this node's home.</p>`
  )}`
}

function DeviceTable({ devices }: { devices: readonly Device[] }) {
  return html`<div class="wide" tabindex="0" role="group" aria-label="Devices">
    <table>
      <thead>
        <tr>
          <th scope="col">Device</th><th scope="col">State</th><th scope="col">Memory for stages</th>
          <th scope="col">Layers</th><th scope="col">Away</th><th scope="col">Hardware</th>
        </tr>
      </thead>
      <tbody>
        ${devices.map(device => html`<${DeviceRow} key=${device.peerId} device=${device} />`)}
      </tbody>
    </table>
  </div>`
}

function DeviceRow({ device }: { device: Device }) {
  const { peerId, name, isSelf, state, reason, memory, layers, rttMs, hardware, isDraining, prefetch } =
    device
  return html`<tr>
    <th scope="row">${name} <span class="hint">${isSelf ? 'this node' : shortId(peerId)}</span></th>
    <td>${state}${isDraining && html`<span class="hint"> about to go: it takes nothing new</span>`}${reason !== undefined && html`<span class="hint"> ${reason}</span>`}</td>
    <td>
      ${bytesOf(memory.usedBytes, memory.budgetBytes)}
      <${MemoryBar} memory=${memory} />
      <span class="hint">
        weights ${bytes(memory.weightBytes)}, KV cache and others ${bytes(memory.otherBytes)}, kept warm ${bytes(memory.idleBytes)}${
          prefetch !== undefined &&
          prefetch.quotaBytes > 0 &&
          `; on its disk in case another device dies ${bytesOf(prefetch.bytes, prefetch.quotaBytes)}`
        }
      </span>
    </td>
    <td>${layers.length === 0 ? 'none' : layers.map(layerRange).join(', ')}</td>
    <td>${rttMs === null ? '' : time(rttMs)}</td>
    <td>${hardware}</td>
  </tr>`
}

function LinkTable({ devices, links }: { devices: readonly Device[]; links: readonly Link[] }) {
  const rows = links.flatMap(({ there, back }) => [there, back]).filter(link => link !== undefined)
  return html`<div class="wide" tabindex="0" role="group" aria-label="Links">
    <table>
      <thead>
        <tr>
          <th scope="col">From</th><th scope="col">To</th><th scope="col">Rate</th><th scope="col">Round trip</th>
          <th scope="col">Measured</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          link => html`<tr key=${`${link.from} ${link.to}`}>
            <th scope="row">${nameOf(devices, link.from)}</th>
            <td>${nameOf(devices, link.to)}</td>
            <td>${rate(link.mbps)} <span class="hint">${howKnown(link)}</span></td>
            <td>${time(link.rttMs)}</td>
            <td>${agoOf(link.ageMs)}</td>
          </tr>`
        )}
      </tbody>
    </table>
    ${rows.length === 0 && html`<p class="hint">No link has been measured yet.</p>`}
  </div>`
}

function agoOf(ageMs: number): string {
  const minutes = Math.round(ageMs / MINUTE_MS)
  return minutes === 0 ? 'just now' : `${minutes} min ago`
}

/** Draws a component anew each minute, for what only grows old. */
function useMinutes(): void {
  const [, setMinutes] = useState(0)
  useEffect(() => {
    const timer = setInterval(() => setMinutes(old => old + 1), MINUTE_MS)
    return () => clearInterval(timer)
  }, [])
}
