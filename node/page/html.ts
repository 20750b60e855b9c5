import htm from 'htm'
import { type ComponentChild, h, type VNode } from 'preact'

export type Child = ComponentChild

type Html = (strings: TemplateStringsArray, ...values: unknown[]) => VNode

/**
 * Texts that are nothing, and the number 0, are written into the document anew each time they are drawn: the library takes
 * them for texts that were not there before.
 */
const create = (type: Parameters<typeof h>[0], props: Parameters<typeof h>[1], ...children: Child[]) =>
  h(type, props, ...children.map(child => (child === '' ? null : child === 0 ? '0' : child)))

/**
 * Elements as they are written in a page; what stands in braces becomes text or attributes, never markup. (What types
 * the library has take it for a CommonJS module.)
 */
export const html: Html = (htm as unknown as { bind(of: typeof create): Html }).bind(create)
