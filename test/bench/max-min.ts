/**
 * Rates that are max-min fair: nobody can have more without somebody who has no more than it having less (progressive filling; Bertsekas and
 * Gallager, Data Networks, 6.5.2).
 *
 * @param uses - for each user what it uses, all of it at once
 * @param capacities - how much of each there is: a rate of 1 takes 1 of all that its user uses
 */
export function maxMinFair(
  uses: readonly (readonly string[])[],
  capacities: ReadonlyMap<string, number>
): number[] {
  const rates = uses.map(() => 0)
  const left = new Map(capacities)
  let rising = uses.map((_, user) => user)
  while (rising.length > 0) {
    const usersOf = (resource: string) => rising.filter(user => uses[user]!.includes(resource)).length
    const shares = [...left].flatMap(([resource, amount]) => {
      const users = usersOf(resource)
      return users === 0 ? [] : [{ resource, users, share: amount / users }]
    })
    const least = shares.reduce((a, b) => (b.share < a.share ? b : a))
    for (const user of rising) rates[user]! += least.share
    for (const { resource, users } of shares) left.set(resource, left.get(resource)! - users * least.share)
    rising = rising.filter(user => !uses[user]!.includes(least.resource))
  }
  return rates
}
