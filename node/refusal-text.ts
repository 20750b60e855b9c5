import type { Refusal } from './plan/problem.ts'

/** Why a model fits nowhere, and with what it would. */
export function refusalText({ reason, advice }: Pick<Refusal, 'reason' | 'advice'>): string {
  return advice === undefined ? reason : `${reason}; it would fit ${advice}`
}
