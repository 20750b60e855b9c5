import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { CheckpointError } from '../../../models/errors.ts'
import { errorLine, exitStatus, InfeasibleError, InputError } from '../../../node/cli/errors.ts'
import { ApiError, NoNodeError } from '../../../node/client/index.ts'
import { TicketError } from '../../../node/mesh/errors.ts'

const api = (code: string, status: number) => new ApiError('the node says no', { code, status })

describe('a command that fails', () => {
  test.each([
    [new InputError('no such file'), 2],
    [new CheckpointError('config.json', 'is damaged'), 2],
    [new TicketError('is no ticket'), 2],
    [new InfeasibleError('nothing fits'), 3],
    [api('infeasible', 503), 3],
    [api('context_length_exceeded', 400), 2],
    [api('model_not_found', 404), 2],
    [api('stage_lost', 502), 1],
    [api('a word of a newer node', 400), 1],
    [new NoNodeError('nobody there'), 1],
    [new DOMException('interrupted', 'AbortError'), 130],
    [new Error('a bug'), 1]
  ])('%s ends with %i', (error, status) => {
    expect(exitStatus(error)).toBe(status)
  })

  test('calls every interrupt that, whatever Node does', async () => {
    const waiting = delay(60_000, undefined, { signal: AbortSignal.abort() })
    expect(await waiting.catch(error => [errorLine(error), exitStatus(error)])).toEqual(['interrupted', 130])
  })

  test('says what only the command line can advise', () => {
    expect(errorLine(api('invalid_api_key', 401))).toBe(
      'the node says no: give --api-key-file or set EDGESHARD_API_KEY'
    )
    expect(errorLine(new NoNodeError('nobody there'))).toBe("nobody there; start one with 'edgeshard up'")
    expect(errorLine(new NoNodeError('nobody there'), '/srv/e')).toBe(
      "nobody there; start one with 'edgeshard up --home /srv/e'"
    )
    expect(errorLine(new Error('a bug'))).toBe('a bug')
  })
})
