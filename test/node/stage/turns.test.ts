import { expect, test } from 'vitest'
import { MAX_BEFORE_CATCH_UP, type StepKind, Turns } from '../../../node/stage/turns.ts'

/** Steps that end when told to, and the order in which they began. */
class Steps {
  readonly turns = new Turns()
  readonly began: string[] = []
  readonly #ends: (() => void)[] = []

  add(kind: StepKind, tenant: string, name: string): Promise<string> {
    return this.turns.run(kind, tenant, async () => {
      this.began.push(name)
      await new Promise<void>(end => this.#ends.push(end))
      return name
    })
  }

  /** Ends the step that runs, again and again. */
  async finish(): Promise<void> {
    for (let end = this.#ends.shift(); end !== undefined; end = this.#ends.shift()) {
      end()
      await new Promise(resolve => setImmediate(resolve))
    }
  }
}

test('a step that finds nobody starts at once', async () => {
  const steps = new Steps()
  const result = steps.add('decode', 'a', 'one')
  expect(steps.began).toEqual(['one'])
  await steps.finish()
  expect(await result).toBe('one')
})

test('a running answer waits for one chunk of a long prompt at most, and the prompt gets on', async () => {
  const steps = new Steps()
  const chunks = ['p1', 'p2', 'p3'].map(name => steps.add('prefill', 'a', name))
  const tokens = ['d1', 'd2'].map(name => steps.add('decode', 'b', name))
  await steps.finish()
  expect(steps.began).toEqual(['p1', 'd1', 'p2', 'd2', 'p3'])
  await Promise.all([...chunks, ...tokens])
})

test('those who share a shard take turns, each in its own order', async () => {
  const steps = new Steps()
  const all = [
    ...['a1', 'a2', 'a3'].map(name => steps.add('decode', 'a', name)),
    ...['b1', 'b2'].map(name => steps.add('decode', 'b', name))
  ]
  await steps.finish()
  expect(steps.began).toEqual(['a1', 'a2', 'b1', 'a3', 'b2'])
  await Promise.all(all)
})

test('a step that fails fails its own caller and nobody else', async () => {
  const turns = new Turns()
  const failed = turns.run('decode', 'a', () => Promise.reject(new Error('damaged')))
  const after = turns.run('decode', 'a', async () => 'fine')
  await expect(failed).rejects.toThrow('damaged')
  expect(await after).toBe('fine')
})

test('what catches up comes when neither a token nor a prompt waits', async () => {
  const steps = new Steps()
  const all = [
    steps.add('decode', 'a', 'd1'),
    ...['c1', 'c2'].map(name => steps.add('catch-up', 'b', name)),
    ...['d2', 'd3'].map(name => steps.add('decode', 'a', name)),
    ...['p1', 'p2'].map(name => steps.add('prefill', 'c', name))
  ]
  await steps.finish()
  expect(steps.began).toEqual(['d1', 'p1', 'd2', 'p2', 'd3', 'c1', 'c2'])
  await Promise.all(all)
})

test('who keeps a shard busy does not keep what catches up from an end', async () => {
  const steps = new Steps()
  const all = [
    steps.add('decode', 'a', 'd0'),
    ...['c1', 'c2'].map(name => steps.add('catch-up', 'b', name)),
    ...Array.from({ length: 2 * MAX_BEFORE_CATCH_UP }, (_, i) => steps.add('decode', 'a', `d${i + 1}`))
  ]
  await steps.finish()
  expect(steps.began.indexOf('c1')).toBe(MAX_BEFORE_CATCH_UP + 1)
  expect(steps.began.indexOf('c2')).toBe(2 * MAX_BEFORE_CATCH_UP + 2)
  await Promise.all(all)
})
