import htm from 'htm'
import { type ComponentChild, h, type VNode } from 'preact'

type Html = (strings: TemplateStringsArray, ...values: unknown[]) => VNode

/**
 * Elements as they are written in a page; what stands in braces becomes text or attributes, never markup. (What types
 * the library has take it for a CommonJS module.)
 */
export const html: Html = (htm as unknown as { bind(create: typeof h): Html }).bind(h)

export type Child = ComponentChild
