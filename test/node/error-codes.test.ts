import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { StoreError } from '../../models/errors.ts'
import { ERROR_OUTCOMES, errorCodeOf, outcomeOf } from '../../node/error-codes.ts'
import { RequestError } from '../../node/errors.ts'
import { RemoteError } from '../../protocols/errors.ts'
import { RefusedError } from '../../protocols/lease/index.ts'

const ROOT = join(import.meta.dirname, '..', '..')

function classes(): { name: string; body: string }[] {
  const files = ['node', 'protocols', 'models'].flatMap(room =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
      .filter(path => path.endsWith('.ts'))
      .map(path => join(ROOT, room, path))
  )
  return files.flatMap(file =>
    [...readFileSync(file, 'utf8').matchAll(/class (\w+) extends \w*Error \{\n([\s\S]*?)\n\}/g)].map(
      ([, name, body]) => ({ name: name!, body: body! })
    )
  )
}

describe('errors', () => {
  test('every class has a code of the table, or takes one', () => {
    const found = classes()
    expect(found.length).toBeGreaterThan(40)
    for (const { name, body } of found) {
      const [, declared, literal] = /readonly code(: \w+)?(?: = '(\w+)')?$/m.exec(body) ?? []
      expect(declared ?? literal, `${name} has a code`).toBeDefined()
      if (literal !== undefined) expect(Object.keys(ERROR_OUTCOMES), name).toContain(literal)
    }
  })

  test('a process that may open no more files is busy, wherever it notices', () => {
    const emfile = Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' })
    const wrapped = new StoreError('cannot write', { cause: new Error('deep', { cause: emfile }) })
    for (const error of [emfile, wrapped]) expect(outcomeOf(error)).toEqual({ status: 503, exit: 1 })
    expect(errorCodeOf(new StoreError('cannot write'))).toBe('store_unwritable')
  })

  test('the code says what becomes of an error', () => {
    expect(outcomeOf(new RequestError('no'))).toEqual({ status: 400, exit: 2 })
    expect(outcomeOf(new Error('a bug'))).toEqual({ status: 500, exit: 1 })
    expect(outcomeOf('not even an error')).toEqual({ status: 500, exit: 1 })
  })

  test.each([
    ['a code of the operating system', Object.assign(new Error('gone'), { code: 'ENOENT' })],
    ['a number, as old DOM exceptions have', new DOMException('quota', 'QuotaExceededError')],
    ['a name that every object has', Object.assign(new Error('odd'), { code: 'toString' })],
    ['a word that a peer chose', new RemoteError('peer', 'infeasible', 'no')],
    ['a word for a peer', new RefusedError('memory', 'no')]
  ])('%s chooses no status here', (_, error) => {
    expect(errorCodeOf(error)).toBe('internal_error')
  })
})
