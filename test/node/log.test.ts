import { afterEach, describe, expect, it, vi } from 'vitest'
import { LOG_LEVELS, logger } from '../../models/log.ts'
import { hostLogger, type LogSettings, startLogs } from '../../node/log.ts'

const log = logger('edgeshard:test')

afterEach(() => {
  vi.restoreAllMocks()
  startLogs()
})

/** What `work` writes to stderr under these settings, line by line. */
function linesOf(settings: LogSettings, work: () => void): string[] {
  let written = ''
  vi.spyOn(process.stderr, 'write').mockImplementation(text => {
    written += text
    return true
  })
  startLogs(settings)
  work()
  return written.split('\n').slice(0, -1)
}

const sayAll = () => {
  for (const level of LOG_LEVELS) log[level](`at ${level}`)
}

describe('levels', () => {
  it.each(LOG_LEVELS.map((level, at) => [level, LOG_LEVELS.slice(0, at + 1)] as const))(
    '%s writes its own lines and those of more weight',
    (level, wanted) => {
      const written = linesOf({ level, format: 'json' }, sayAll).map(line => JSON.parse(line).level)
      expect(written).toEqual(wanted)
    }
  )

  it('nothing is written where nothing is asked for', () => {
    expect(linesOf({}, sayAll)).toEqual([])
  })

  it('fields that cost something are made for lines that are written, and for no others', () => {
    const fields = vi.fn(() => ({ costly: 1 }))
    expect(linesOf({ level: 'info' }, () => log.debug('a line', fields))).toEqual([])
    expect(fields).not.toHaveBeenCalled()
    expect(linesOf({ level: 'debug' }, () => log.debug('a line', fields))).toHaveLength(1)
    expect(fields).toHaveBeenCalledOnce()
  })

  it('what is passed over is a line at trace, and undefined', async () => {
    const passing = () => Promise.reject(new Error('broken')).catch(log.passOver('given up', { file: 'x' }))
    let passed: Promise<undefined> | undefined
    const text = () => {
      passed = passing()
    }
    linesOf({ level: 'debug' }, text)
    expect(await passed).toBeUndefined()
    expect(process.stderr.write).not.toHaveBeenCalled()
    const lines = linesOf({ level: 'trace', format: 'json' }, () =>
      log.passOver('given up')(new Error('broken'))
    )
    expect(lines.map(line => JSON.parse(line))).toMatchObject([
      { level: 'trace', message: 'given up', fields: { error: 'broken' } }
    ])
  })
})

describe('json', () => {
  it('is one object a line: time, level, namespace, message, requestId and fields', () => {
    const [line, other, ...rest] = linesOf({ level: 'info', format: 'json' }, () => {
      log.of('r-1').info('leased', { bytes: 3, layers: '[0, 4)', absent: undefined, own: true })
      log.info('alone')
    })
    expect(rest).toEqual([])
    expect(JSON.parse(line!)).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      level: 'info',
      namespace: 'edgeshard:test',
      message: 'leased',
      requestId: 'r-1',
      fields: { bytes: 3, layers: '[0, 4)', own: true }
    })
    expect(JSON.parse(other!)).not.toHaveProperty('requestId')
  })

  it("libp2p's own lines are objects, too", () => {
    const [line] = linesOf({ level: 'error', format: 'json' }, () => {
      // What $DEBUG would do: one of ours is on by its level.
      hostLogger().forComponent('edgeshard:host').error('dial of %s failed', 'x')
    })
    expect(JSON.parse(line!)).toMatchObject({
      level: 'error',
      namespace: 'edgeshard:host',
      message: 'dial of x failed'
    })
  })
})

describe('text', () => {
  it('is one line whatever a peer says, with words in quotes', () => {
    const hostile = 'desk\n2026 edgeshard:test forged\u001b[31m requestId=x'
    const lines = linesOf({ level: 'info' }, () =>
      log.of('r-1').info('peer connected', { name: hostile, n: 1 })
    )
    expect(lines).toHaveLength(1)
    expect(lines[0]).toContain(
      'peer connected name="desk 2026 edgeshard:test forged [31m requestId=x" n=1 requestId=r-1'
    )
    expect(lines[0]).toContain('edgeshard:test:info')
  })

  it('rounds, as for people', () => {
    const [line] = linesOf({ level: 'info' }, () =>
      log.info('timed', { ms: 3177.1927639999994, bytes: 5264717 })
    )
    expect(line).toMatch(/timed ms=3177\.193 bytes=5264717$/)
  })

  it('takes no message for a format, and cuts what is too long', () => {
    const [line] = linesOf({ level: 'info' }, () => log.info('100 %s %o', { long: 'x'.repeat(10_000) }))
    expect(line).toContain('100 %s %o long=')
    expect(line!.length).toBeLessThan(2200)
  })
})
