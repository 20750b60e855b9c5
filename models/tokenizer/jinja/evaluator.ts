import { attribute, filterOf } from './filters.ts'
import { methodOf } from './methods.ts'
import type { Argument, CallNode, Expression, Identifier, Parameter, Slice, Statement } from './nodes.ts'
import { operate } from './operators.ts'
import { Scope } from './scope.ts'
import { testOf } from './tests.ts'
import {
  Call,
  type Callable,
  equal,
  Float,
  iterate,
  kindOf,
  Namespace,
  numeric,
  Tuple,
  truth,
  type Value,
  write
} from './values.ts'

/** A test with arguments, which the parser does not know, comes as a filter of this name and the test's. */
export const TEST_PREFIX = 'is:'
export const NEGATED_TEST_PREFIX = 'is not:'

/** `break` or `continue` on its way to the loop; an error only where there is none. */
class LoopControl extends Error {
  readonly code = 'chat_template'
  readonly kind: 'Break' | 'Continue'

  constructor(kind: 'Break' | 'Continue') {
    super(`${kind.toLowerCase()} outside a loop`)
    this.kind = kind
  }
}

/** Runs a parsed template as Python's Jinja does, writing text as it goes. */
export class Evaluator {
  readonly #maxCharacters: number
  #text = ''

  constructor(maxCharacters: number) {
    this.#maxCharacters = maxCharacters
  }

  /** @throws {Error} saying what cannot be computed, or that the text grows beyond its bound. */
  run(statements: readonly Statement[], scope: Scope): string {
    return this.#captured(() => this.#block(statements, scope))
  }

  /** What `body` writes. */
  #captured(body: () => void): string {
    const before = this.#text
    this.#text = ''
    try {
      body()
      return this.#text
    } finally {
      this.#text = before
    }
  }

  #write(text: string): void {
    this.#text += text
    if (this.#text.length > this.#maxCharacters) {
      throw new Error(`it writes more than ${this.#maxCharacters} characters`)
    }
  }

  #block(statements: readonly Statement[], scope: Scope): void {
    for (const statement of statements) this.#statement(statement, scope)
  }

  #statement(node: Statement, scope: Scope): void {
    switch (node.type) {
      case 'Comment':
        break
      case 'If':
        this.#block(truth(this.evaluate(node.test, scope)) ? node.body : node.alternate, scope)
        break
      case 'For':
        this.#loop(node, scope)
        break
      case 'Break':
      case 'Continue':
        throw new LoopControl(node.type)
      case 'Set': {
        const { assignee, value, body } = node
        const set = value === null ? this.run(body, new Scope(scope)) : this.evaluate(value, scope)
        this.#assign(assignee, set, scope)
        break
      }
      case 'Macro':
        scope.set(node.name.value, this.#macro(node.args, node.body, scope))
        break
      case 'CallStatement': {
        const caller = this.#macro(node.callerArgs ?? [], node.body, scope)
        const { args, named } = this.#arguments(node.call, scope)
        const call = new Call(args, new Map([...named, ['caller', caller]]))
        this.#write(write(this.#called(node.call.callee, call, scope)))
        break
      }
      case 'FilterStatement': {
        const text = this.run(node.body, new Scope(scope))
        this.#write(write(this.#filtered(text, node.filter, scope)))
        break
      }
      default:
        this.#write(write(this.evaluate(node, scope)))
    }
  }

  #loop(node: Extract<Statement, { type: 'For' }>, scope: Scope): void {
    // `for x in xs if condition` comes as a choice; the condition sees x.
    const { iterable, loopvar } = node
    const [source, condition] =
      iterable.type === 'SelectExpression' ? [iterable.lhs, iterable.test] : [iterable, undefined]
    const items = iterate(this.evaluate(source, scope)).filter(item => {
      if (condition === undefined) return true
      const inner = new Scope(scope)
      this.#assign(loopvar, item, inner)
      return truth(this.evaluate(condition, inner))
    })
    if (items.length === 0) this.#block(node.defaultBlock, scope)
    let changedFrom: Value[] | undefined
    const changed: Callable = ({ args }) => {
      const same = changedFrom !== undefined && equal(changedFrom, [...args])
      changedFrom = [...args]
      return !same
    }
    for (const [i, item] of items.entries()) {
      const inner = new Scope(scope)
      this.#assign(loopvar, item, inner)
      inner.set('loop', loopState(items, i, changed))
      try {
        this.#block(node.body, inner)
      } catch (error) {
        if (!(error instanceof LoopControl)) throw error
        if (error.kind === 'Break') return
      }
    }
  }

  /** Gives a name, several names, or a field of a namespace its value. */
  #assign(target: Expression, value: Value, scope: Scope): void {
    if (target.type === 'Identifier') {
      scope.set(target.value, value)
      return
    }
    if (target.type === 'TupleLiteral') {
      const values = iterate(value)
      if (values.length !== target.value.length) {
        throw new Error(`${values.length} values for ${target.value.length} names`)
      }
      for (const [i, part] of target.value.entries()) this.#assign(part, values[i], scope)
      return
    }
    if (target.type === 'MemberExpression' && !target.computed && target.property.type === 'Identifier') {
      const object = this.evaluate(target.object, scope)
      if (object instanceof Namespace) {
        object.fields.set(target.property.value, value)
        return
      }
      throw new Error(`{% set %} of a field of ${kindOf(object)}, which only a namespace has`)
    }
    throw new Error(`{% set %} cannot set what ${target.type} stands for`)
  }

  #macro(parameters: readonly Parameter[], body: readonly Statement[], scope: Scope): Callable {
    return ({ args, named }) => {
      const inner = new Scope(scope)
      const rest = new Map(named)
      for (const [i, parameter] of parameters.entries()) {
        const key = parameter.type === 'Identifier' ? parameter.value : parameter.key.value
        const given = i < args.length || rest.has(key)
        const value = i < args.length ? args[i] : rest.get(key)
        rest.delete(key)
        const standard = parameter.type === 'Identifier' ? undefined : parameter.value
        inner.set(key, given || standard === undefined ? value : this.evaluate(standard, inner))
      }
      inner.set('varargs', Tuple.from<Value>(args.slice(parameters.length)) as Tuple)
      inner.set('caller', rest.get('caller'))
      rest.delete('caller')
      inner.set('kwargs', new Map<Value, Value>(rest))
      return this.run(body, inner)
    }
  }

  evaluate(node: Expression, scope: Scope): Value {
    switch (node.type) {
      case 'IntegerLiteral':
      case 'StringLiteral':
        return node.value
      case 'FloatLiteral':
        return new Float(node.value)
      case 'ArrayLiteral':
        return node.value.map(item => this.evaluate(item, scope))
      case 'TupleLiteral':
        return Tuple.from<Value>(node.value.map(item => this.evaluate(item, scope))) as Tuple
      case 'ObjectLiteral':
        return new Map(
          [...node.value].map(([key, value]) => [this.evaluate(key, scope), this.evaluate(value, scope)])
        )
      case 'Identifier':
        return scope.get(node.value)
      case 'MemberExpression':
        return this.#member(node, scope)
      case 'CallExpression':
        return this.#called(node.callee, this.#arguments(node, scope), scope)
      case 'BinaryExpression':
        return this.#binary(node, scope)
      case 'UnaryExpression':
        return unary(node.operator.value, this.evaluate(node.argument, scope))
      case 'FilterExpression':
        return this.#filtered(this.evaluate(node.operand, scope), node.filter, scope)
      case 'TestExpression': {
        const holds = testOf(node.test.value)(this.evaluate(node.operand, scope), new Call())
        return holds !== node.negate
      }
      case 'SelectExpression':
        return truth(this.evaluate(node.test, scope)) ? this.evaluate(node.lhs, scope) : undefined
      case 'Ternary':
        return this.evaluate(
          truth(this.evaluate(node.condition, scope)) ? node.trueExpr : node.falseExpr,
          scope
        )
    }
    throw new Error(`${(node as { type: string }).type} is not known here`)
  }

  #binary({ operator, left, right }: Extract<Expression, { type: 'BinaryExpression' }>, scope: Scope): Value {
    const first = this.evaluate(left, scope)
    if (operator.value === 'and') return truth(first) ? this.evaluate(right, scope) : first
    if (operator.value === 'or') return truth(first) ? first : this.evaluate(right, scope)
    return operate(operator.value, first, this.evaluate(right, scope))
  }

  #member(
    { object, property, computed }: Extract<Expression, { type: 'MemberExpression' }>,
    scope: Scope
  ): Value {
    const holder = this.evaluate(object, scope)
    if (property.type === 'SliceExpression') return this.#slice(holder, property, scope)
    // x.0 is x[0].
    const name = !computed && property.type === 'Identifier' ? property.value : this.evaluate(property, scope)
    if (holder === undefined) throw new Error(`${nameOf(object)} is undefined, so it has no ${write(name)}`)
    const own = attribute(holder, name)
    const method = typeof name === 'string' ? methodOf(holder, name) : undefined
    // A dot asks for the method first, brackets for the item.
    return computed ? (own ?? method) : (method ?? own)
  }

  #slice(value: Value, { start, stop, step }: Slice, scope: Scope): Value {
    const number = (node: Expression | undefined) => {
      const found = node === undefined ? null : this.evaluate(node, scope)
      if (found === null || typeof found === 'number') return found
      throw new Error(`a slice by ${kindOf(found)}`)
    }
    const items = typeof value === 'string' ? [...value] : Array.isArray(value) ? value : undefined
    if (items === undefined) throw new Error(`a slice of ${kindOf(value)}`)
    const sliced = slice<Value>(items, number(start), number(stop), number(step) ?? 1)
    return typeof value === 'string' ? sliced.join('') : sliced
  }

  #called(callee: Expression, call: Call, scope: Scope): Value {
    const called = this.evaluate(callee, scope)
    if (typeof called === 'function') return called(call)
    throw new Error(`${nameOf(callee)}() is not known here: it is ${kindOf(called)}`)
  }

  #filtered(value: Value, filter: Identifier | CallNode, scope: Scope): Value {
    if (filter.type === 'Identifier') return filterOf(filter.value)(value, new Call())
    const name = nameOf(filter.callee)
    const call = this.#arguments(filter, scope)
    if (name.startsWith(TEST_PREFIX)) return testOf(name.slice(TEST_PREFIX.length))(value, call)
    if (name.startsWith(NEGATED_TEST_PREFIX)) {
      return !testOf(name.slice(NEGATED_TEST_PREFIX.length))(value, call)
    }
    return filterOf(name)(value, call)
  }

  #arguments({ args: nodes }: CallNode, scope: Scope): Call {
    const args: Value[] = []
    const named = new Map<string, Value>()
    for (const node of nodes as Argument[]) {
      if (node.type === 'KeywordArgumentExpression')
        named.set(node.key.value, this.evaluate(node.value, scope))
      else if (node.type === 'SpreadExpression') args.push(...iterate(this.evaluate(node.argument, scope)))
      else if (node.type === 'KeywordSpreadExpression') {
        const spread = this.evaluate(node.argument, scope)
        if (!(spread instanceof Map)) throw new Error(`** of ${kindOf(spread)}`)
        for (const [key, value] of spread) named.set(write(key), value)
      } else args.push(this.evaluate(node, scope))
    }
    return new Call(args, named)
  }
}

/** What `loop` holds in turn `i` of a loop; only recursive loops, which the parser does not know, are deeper than 1. */
function loopState(items: readonly Value[], i: number, changed: Callable): Namespace {
  const cycle: Callable = ({ args }) => args[i % args.length]
  return new Namespace(
    new Map<string, Value>([
      ['index', i + 1],
      ['index0', i],
      ['revindex', items.length - i],
      ['revindex0', items.length - i - 1],
      ['first', i === 0],
      ['last', i === items.length - 1],
      ['length', items.length],
      ['depth', 1],
      ['depth0', 0],
      ['previtem', items[i - 1]],
      ['nextitem', items[i + 1]],
      ['cycle', cycle],
      ['changed', changed]
    ])
  )
}

function unary(operator: string, value: Value): Value {
  if (operator === 'not') return !truth(value)
  const number = numeric(value)
  if (number === undefined) throw new Error(`${operator} of ${kindOf(value)}`)
  const signed = operator === '-' ? -number : number
  return value instanceof Float ? new Float(signed) : signed
}

/** list[start:stop:step] */
function slice<T>(items: readonly T[], start: number | null, stop: number | null, step: number): T[] {
  if (step === 0) throw new Error('a slice with step 0')
  const size = items.length
  const [least, most] = step > 0 ? [0, size] : [-1, size - 1]
  const clamped = (at: number) => Math.min(most, Math.max(least, at < 0 ? at + size : at))
  const from = start === null ? (step > 0 ? least : most) : clamped(start)
  const to = stop === null ? (step > 0 ? most : least) : clamped(stop)
  const taken: T[] = []
  for (let at = from; step > 0 ? at < to : at > to; at += step) taken.push(items[at]!)
  return taken
}

/** What an error calls an expression. */
function nameOf(node: Expression): string {
  if (node.type === 'Identifier') return node.value
  if (node.type !== 'MemberExpression') return 'what is called'
  const property = node.property.type === 'Identifier' && !node.computed ? `.${node.property.value}` : '[...]'
  return `${nameOf(node.object)}${property}`
}
