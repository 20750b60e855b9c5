import { HttpError } from './errors.ts'

/** Schemes under which apps run that are no web page from anywhere: Electron, Tauri, editors. */
const APP_SCHEMES = ['app:', 'tauri:', 'vscode-webview:', 'vscode-file:', 'capacitor:', 'ionic:']
const LOOPBACK_NAMES = /^(localhost|127(\.\d{1,3}){3}|\[::1\]|[\w-]+\.localhost)$/
/** By which containers know the device that they run on. */
export const CONTAINER_HOST = 'host.docker.internal'

/** Whether a page of this origin may use the API: one of this device, an app, or one that was allowed. */
export function isAllowedOrigin(origin: string, allowed: readonly string[]): boolean {
  const given = origin.toLowerCase()
  if (allowed.includes('*') || allowed.includes(given)) return true
  const url = URL.canParse(given) ? new URL(given) : undefined
  if (url === undefined) return false
  if (APP_SCHEMES.includes(url.protocol)) return true
  return (url.protocol === 'http:' || url.protocol === 'https:') && LOOPBACK_NAMES.test(url.hostname)
}

/**
 * An origin as browsers send it, or `*`.
 *
 * @throws {HttpError} for what can never be one
 */
export function allowedOrigin(text: string): string {
  const given = text.toLowerCase().replace(/\/$/, '')
  if (given === '*' || given === 'null' || /^[a-z][\w+.-]*:\/\/[^/\s]+$/.test(given)) return given
  throw new HttpError('invalid_input', `"${text}" is no origin: give SCHEME://HOST, with its port, or *`)
}

/** A name in a Host header, or `*`. @throws {HttpError} for what can never be one */
export function allowedHost(text: string): string {
  const given = text.toLowerCase()
  if (given === '*' || /^[\w.-]+$/.test(given) || /^[0-9a-f:.]+$/.test(given)) return given
  throw new HttpError('invalid_input', `"${text}" is no host: give its name or address without a port, or *`)
}
