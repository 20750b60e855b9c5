import { isValidElement, type VNode } from 'preact'
import { describe, expect, test } from 'vitest'
import type { Child } from '../../../node/page/html.ts'
import { GrowingMarkdown, markdown } from '../../../node/page/markdown.ts'

/** What the page would show, as text with its elements: `p(a strong(b))`. */
function shown(child: Child): string {
  if (Array.isArray(child)) return child.map(shown).join('')
  if (!isValidElement(child))
    return child === null || child === undefined || child === false ? '' : `${child}`
  const { type, props } = child as VNode<{ children?: Child; href?: string; start?: number }>
  const href = props.href === undefined ? '' : `<${props.href}>`
  return `${String(type)}${href}(${shown(props.children)})`
}

const ofBlock = (text: string) => shown(markdown(text))

describe('Markdown', () => {
  test.each([
    ['plain text', 'p(plain text)'],
    ['one\ntwo\n\nthree', 'p(one\ntwo)p(three)'],
    ['a **b** *c* _d_ __e__ ~~f~~ `g`', 'p(a strong(b) em(c) em(d) strong(e) del(f) code(g))'],
    ['*a **b** c*', 'p(em(a strong(b) c))'],
    ['2 * 3 * 4, snake_case_name, 5*', 'p(2 * 3 * 4, snake_case_name, 5*)'],
    ['\\*not\\* ``a ` b``', 'p(*not* code(a ` b))'],
    ['# Head\ntext', 'p(Head)p(text)'],
    ['- a\n- b\n  more\n  - c', 'ul(li(p(a))li(p(b\nmore)ul(li(p(c)))))'],
    ['3. a\n4. b', 'ol(li(p(a))li(p(b)))'],
    ['```js\n<b>*x*</b>\n```\nend', 'div(pre(code(<b>*x*</b>))button(Copy code))p(end)'],
    ['```\nnever closed', 'div(pre(code(never closed))button(Copy code))'],
    ['> a\n> b\n\nc', 'blockquote(p(a\nb))p(c)'],
    ['a\n\n---\n\nb', 'p(a)hr()p(b)']
  ])('%j', (text, wanted) => {
    expect(ofBlock(text)).toBe(wanted)
  })

  test('a text that grows reads at every length as it does at once, and what is settled is not read again', () => {
    const lines = [
      'a **b',
      'c**',
      '',
      '- one',
      '- two',
      '  more',
      '',
      '  - three',
      '',
      '| a | b |',
      '|---|---|'
    ]
    const rest = ['| 1 | 2 |', 'end', '', '> q', '> r', '```js', '# code', '', '```', '1. x', '', '2. y', '']
    const text = [...lines, ...rest, ...lines, '# last'].join('\n')
    const growing = new GrowingMarkdown()
    let [before]: Child[][] = [[]]
    let kept = 0
    for (let length = 0; length <= text.length; length++) {
      const read = growing.read(text.slice(0, length))
      expect(shown(read)).toBe(ofBlock(text.slice(0, length)))
      kept = Math.max(kept, read.filter((element, i) => element === before![i]).length)
      before = read
    }
    expect(kept).toBeGreaterThan(6)
    expect(shown(growing.read('another'))).toBe('p(another)')
  })

  test('tables', () => {
    expect(ofBlock('| a | b |\n|---|:-:|\n| 1 | **2** |')).toContain('tr(td(1)td(strong(2)))')
  })

  test('links lead to the web alone; pictures and HTML are text', () => {
    expect(ofBlock('[a](https://x.org/y) https://z.org.')).toBe(
      'p(a<https://x.org/y>(a) a<https://z.org>(https://z.org).)'
    )
    for (const address of [
      'javascript:alert(1)',
      'data:text/html,x',
      '//x.org',
      'JAVASCRIPT:x',
      'file:///x'
    ]) {
      expect(ofBlock(`[a](${address})`)).toMatch(/^p\(a\)?/)
      expect(ofBlock(`[a](${address})`)).not.toContain('<')
    }
    expect(ofBlock('![a cat](https://x.org/cat.png)')).toBe('p(a cat)')
    const html = '<img src=x onerror=alert(1)> <script>x</script> &amp;'
    expect(ofBlock(html)).toBe(`p(${html})`)
  })

  test.each([
    '*',
    '_',
    '[',
    '![',
    '`',
    '~',
    '<',
    '>',
    '> ',
    '- ',
    '  - a\n',
    '# ',
    '|',
    '\\',
    'a*',
    '**a ',
    '[a](',
    '*_'
  ])('10,000 characters of %j come to an end, and none is lost but marks', mark => {
    const text = mark.repeat(Math.ceil(10_000 / mark.length))
    const letters = (from: string) => from.replace(/[^a]/g, '').length
    const seen = shownText(markdown(text))
    expect(letters(seen)).toBe(letters(text))
  })
})

function shownText(child: Child): string {
  if (Array.isArray(child)) return child.map(shownText).join('')
  if (!isValidElement(child)) return typeof child === 'string' ? child : ''
  return shownText((child as VNode<{ children?: Child }>).props.children)
}
