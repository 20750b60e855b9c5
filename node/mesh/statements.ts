import { createHash } from 'node:crypto'
import {
  MAX_ADMITTERS,
  MAX_BANNED,
  MAX_CHAIN,
  MAX_DEVICES,
  MAX_DORMANT,
  MAX_OWNERS
} from '../../protocols/membership/constants.ts'
import { founderOf, lineOf, type MeshName, type Statement } from '../../protocols/membership/statement.ts'

type Of<T extends Statement['type']> = Extract<Statement, { type: T }>
type Admit = Of<'admit'>
type Ban = Of<'ban' | 'unban'>

/** How a device is in: what its chain is made of, one step from the founder after the other. */
interface Place {
  /** The statement that lets it in, and its signer's place; null for the founder. */
  through: { statement: Of<'admit' | 'owner'>; of: Place } | null
  /** `admit` statements between the founder and it. */
  depth: number
}

/** What a set of statements comes to. */
interface Meaning {
  /** Devices that are in, the founder first, in the order in which `admit` statements are kept. */
  places: ReadonlyMap<string, Place>
  /** Devices that would be in if nobody had ever been banned. */
  reached: ReadonlyMap<string, Place>
  /** The founder, and the devices that it made owners and does not ban. */
  owners: ReadonlySet<string>
  /** What counts of every device that an owner banned or let in again. */
  verdicts: ReadonlyMap<string, Ban>
  /** What counts for anything, by line: owners first, then bans, then each signer's admission before what it signed. */
  kept: ReadonlyMap<string, Statement>
}

/**
 * What is known of who belongs to a mesh (protocols/README.md, section 9.1): a set that may be merged with any other of
 * the same mesh, in any order, and means the same then. It is a pure function of its statements; no clock, no network.
 */
export class StatementSet {
  readonly mesh: MeshName
  readonly founder: string
  readonly #isSigned: (statement: Statement) => boolean
  #meaning: Meaning
  #digest: string | undefined

  /** @param isSigned - whether a statement's signature is its signer's, for this mesh */
  constructor(mesh: MeshName, isSigned: (statement: Statement) => boolean) {
    this.mesh = mesh
    this.founder = founderOf(mesh)
    this.#isSigned = isSigned
    this.#meaning = meaningOf(this.founder, [])
  }

  /**
   * Adds what counts of some statements; what counts for nothing is dropped. They are looked at in the order of `all`: one
   * whose signer nothing leads to so far is passed over, and nothing is looked at behind one that is not signed. So who
   * is in no chain costs a reader one signature at most, however much it sends.
   *
   * @param letsIn - nothing is added unless this device is in then
   * @returns whether the set is another one now
   */
  merge(statements: readonly Statement[], letsIn = this.founder): boolean {
    const { kept, reached } = this.#meaning
    const added = new Map<string, Statement>()
    const signers = new Set<string>()
    for (const statement of statements) {
      const line = lineOf(statement)
      const { by, device } = statement
      if (!kept.has(line) && !added.has(line)) {
        if (!reached.has(by) && !signers.has(by)) continue
        if (!this.#isSigned(statement)) break
        added.set(line, statement)
      }
      if (statement.type === 'admit' || statement.type === 'owner') signers.add(device)
    }
    if (added.size === 0) return false
    const before = this.digest
    const meaning = meaningOf(this.founder, [...kept.values(), ...added.values()])
    if (!meaning.places.has(letsIn)) return false
    this.#meaning = meaning
    this.#digest = undefined
    return this.digest !== before
  }

  /** All statements that count, owners and bans first, then each signer's admission before what it signed. */
  get all(): Statement[] {
    return [...this.#meaning.kept.values()]
  }

  /** SHA-256 in hex; two sets with the same one are the same. */
  get digest(): string {
    const lines = () => [...this.#meaning.kept.keys()].sort().join('\n')
    this.#digest ??= createHash('sha256').update(lines()).digest('hex')
    return this.#digest
  }

  /** Devices that are in. */
  get devices(): string[] {
    return [...this.#meaning.places.keys()]
  }

  /** Owners, the founder first. */
  get owners(): string[] {
    return [...this.#meaning.owners]
  }

  /** Devices that are banned. */
  get banned(): string[] {
    return [...this.#meaning.verdicts.values()]
      .filter(({ type }) => type === 'ban')
      .map(({ device }) => device)
  }

  isIn(device: string): boolean {
    return this.#meaning.places.has(device)
  }

  isOwner(device: string): boolean {
    return this.#meaning.owners.has(device)
  }

  isBanned(device: string): boolean {
    return this.#meaning.verdicts.get(device)?.type === 'ban'
  }

  /** Whose word it is that a device is banned; undefined where it is not. */
  bannedBy(device: string): string | undefined {
    return this.isBanned(device) ? this.#meaning.verdicts.get(device)?.by : undefined
  }

  /** How many devices one has banned or let in again. */
  bansOf(by: string): number {
    return this.all.filter(isBan).filter(statement => statement.by === by).length
  }

  /** Devices that say they admitted this one: the nearest to the founder first. */
  admittersOf(device: string): string[] {
    return this.all.filter(({ type, device: of }) => of === device && type === 'admit').map(({ by }) => by)
  }

  /** Devices that would not be in without this one: what a ban of it puts out besides. */
  dependingOn(device: string): string[] {
    const hasAdmitted = this.all.some(({ type, by }) => type === 'admit' && by === device)
    if (!hasAdmitted) return []
    const without = meaningOf(this.founder, this.all, device)
    return this.devices.filter(id => id !== device && !without.places.has(id))
  }

  /** `admit` statements between the founder and a device that is in; undefined of another one. */
  depthOf(device: string): number | undefined {
    return this.#meaning.places.get(device)?.depth
  }

  /** The counter of what a device signs about others' admission now. */
  admitCounter(device: string): number {
    return this.#meaning.verdicts.get(device)?.counter ?? 0
  }

  /** The counter of the next ban or unban of a device that `by` signs. */
  nextCounter(device: string, by: string): number {
    const own = this.all.filter(isBan).find(ban => ban.device === device && ban.by === by)
    return 1 + Math.max(this.#meaning.verdicts.get(device)?.counter ?? 0, own?.counter ?? 0)
  }

  /** What proves to somebody else that a device is in, as far as is known here; nothing for one that is not. */
  proofOf(device: string): Statement[] {
    const { places, verdicts, kept } = this.#meaning
    const proof = new Map<string, Statement>()
    const add = (statement: Statement | undefined) => {
      if (statement !== undefined) proof.set(lineOf(statement), statement)
    }
    const ownership = (owner: string) => kept.get(lineOf({ type: 'owner', device: owner, by: this.founder }))
    const place = places.get(device)
    if (place === undefined) return []
    for (let at = place.through; at !== null; at = at.of.through) {
      const verdict = verdicts.get(at.statement.device)
      if (verdict !== undefined) {
        add(verdict)
        add(ownership(verdict.by))
      }
      add(at.statement)
    }
    // Whose bans count for nothing: the reader may know of one that lies on the chain.
    for (const ban of kept.values()) {
      if (ban.type !== 'ban' || ban.by !== this.founder || verdicts.get(ban.device) !== ban) continue
      add(ownership(ban.device) && ban)
    }
    // As they are in the set: what leads to a signer comes before what it signed.
    return [...kept.values()].filter(statement => proof.has(lineOf(statement)))
  }
}

/** @param without - a device to leave out, as if the founder had banned it */
function meaningOf(founder: string, statements: readonly Statement[], without?: string): Meaning {
  const promotions = statements
    .filter((statement): statement is Of<'owner'> => statement.type === 'owner')
    .filter(({ device, by }) => by === founder && device !== founder)
    .sort(byDevice)
    .slice(0, MAX_OWNERS)
  const promoted = new Map(promotions.map(statement => [statement.device, statement]))
  const bans = keptBans(founder, promoted, statements)
  const founders = verdictsOf(bans, ({ by }) => by === founder)
  const isOut = (device: string) => device === without || founders.get(device)?.type === 'ban'
  const owners = new Set([founder, ...[...promoted.keys()].filter(device => !isOut(device))])
  const verdicts = verdictsOf(
    bans,
    ({ by, device }) => owners.has(by) && (by === founder || !promoted.has(device))
  )

  const admitsBy = Map.groupBy(newestAdmits(founder, statements), ({ by }) => by)
  const isKeptOut = (device: string) => device === without || verdicts.get(device)?.type === 'ban'
  const counts = ({ by, device, counter }: Admit) =>
    !isKeptOut(device) && counter >= (verdicts.get(by)?.counter ?? 0)
  const places = placesOf(founder, { owners, promoted, admitsBy, counts })

  const kept = new Map<string, Statement>()
  const keep = (statement: Statement) => void kept.set(lineOf(statement), statement)
  promotions.forEach(keep)
  bans.forEach(keep)
  // What would count without any ban may count again: it is kept as long as there is room for it.
  const reached = placesOf(founder, {
    owners: [founder, ...promoted.keys()],
    promoted,
    admitsBy,
    counts: () => true
  })
  const admitters = new Map<string, number>()
  let dormant = 0
  const keepAdmits = (signers: Iterable<string>, isKept: (statement: Admit) => boolean) => {
    for (const by of signers) {
      for (const statement of admitsBy.get(by) ?? []) {
        const { device } = statement
        const count = admitters.get(device) ?? 0
        if (count >= MAX_ADMITTERS || kept.has(lineOf(statement)) || !isKept(statement)) continue
        admitters.set(device, count + 1)
        keep(statement)
      }
    }
  }
  keepAdmits(places.keys(), statement => counts(statement) && places.has(statement.device))
  keepAdmits(reached.keys(), ({ device }) => reached.has(device) && dormant++ < MAX_DORMANT)
  return { places, reached, owners, verdicts, kept }
}

/** Of what one device says of another's admission the newest. */
function newestAdmits(founder: string, statements: readonly Statement[]): Admit[] {
  const newest = new Map<string, Admit>()
  for (const statement of statements) {
    if (statement.type !== 'admit') continue
    const { device, by, counter } = statement
    if (device === by || device === founder) continue
    const pair = `${device} ${by}`
    const other = newest.get(pair)
    if (other === undefined || counter > other.counter) newest.set(pair, statement)
  }
  return [...newest.values()].sort(byDevice)
}

/** Of each signer that is or was an owner what counts of every device, as many as it may ban. */
function keptBans(
  founder: string,
  promoted: ReadonlyMap<string, unknown>,
  statements: readonly Statement[]
): Ban[] {
  const bySigner = Map.groupBy(
    statements
      .filter(isBan)
      .filter(({ by, device }) => device !== founder && device !== by)
      .filter(({ by, device }) => by === founder || (promoted.has(by) && !promoted.has(device))),
    ({ by }) => by
  )
  return [...bySigner.keys()]
    .sort()
    .flatMap(by =>
      [...verdictsOf(bySigner.get(by)!, () => true).values()].sort(byDevice).slice(0, MAX_BANNED)
    )
}

/** Of every device the statement that counts among some: the highest counter, of equal ones the ban. */
function verdictsOf(bans: readonly Ban[], counts: (ban: Ban) => boolean): Map<string, Ban> {
  const verdicts = new Map<string, Ban>()
  for (const ban of bans) {
    if (!counts(ban)) continue
    const other = verdicts.get(ban.device)
    if (other === undefined || isLater(ban, other)) verdicts.set(ban.device, ban)
  }
  return verdicts
}

function isLater(ban: Ban, other: Ban): boolean {
  if (ban.counter !== other.counter) return ban.counter > other.counter
  if (ban.type !== other.type) return ban.type === 'ban'
  return ban.by < other.by
}

interface Placing {
  owners: Iterable<string>
  promoted: ReadonlyMap<string, Of<'owner'>>
  admitsBy: ReadonlyMap<string, Admit[]>
  counts(statement: Admit): boolean
}

/** Who is in: what owners admit before what others do, so that nobody else can take the last places. */
function placesOf(founder: string, { owners, promoted, admitsBy, counts }: Placing): Map<string, Place> {
  const root: Place = { through: null, depth: 0 }
  const places = new Map([[founder, root]])
  for (const device of owners) {
    const statement = promoted.get(device)
    if (statement !== undefined) places.set(device, { through: { statement, of: root }, depth: 0 })
  }
  let level = [...places.keys()]
  while (level.length > 0) {
    const next: string[] = []
    for (const by of level) {
      const of = places.get(by)!
      for (const statement of admitsBy.get(by) ?? []) {
        const { device } = statement
        if (places.has(device) || !counts(statement)) continue
        if (places.size >= MAX_DEVICES || of.depth >= MAX_CHAIN) continue
        places.set(device, { through: { statement, of }, depth: of.depth + 1 })
        next.push(device)
      }
    }
    level = next.sort()
  }
  return places
}

function isBan(statement: Statement): statement is Ban {
  return statement.type === 'ban' || statement.type === 'unban'
}

function byDevice(a: Statement, b: Statement): number {
  return a.device < b.device ? -1 : a.device > b.device ? 1 : 0
}
