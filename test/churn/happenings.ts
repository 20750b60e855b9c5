import { setTimeout as delay } from 'node:timers/promises'
import { pickOf, type Random } from '../chaos/round.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import type { ChurnDevice, ChurnLab } from './churn-lab.ts'

/** What can happen to the mesh. */
export const KINDS = [
  'kill',
  'restart',
  'sleep',
  'long-sleep',
  'busy',
  'unplug',
  'part',
  'one-way',
  'drift',
  'drain',
  'join-anew',
  'clock',
  'disk-full',
  'two-processes',
  'copied-home',
  'other-version'
] as const

export type Kind = (typeof KINDS)[number]

export interface Happening {
  /** In words, as it begins. */
  told: string
  /** Devices to which nothing else is to happen meanwhile. */
  devices: ChurnDevice[]
  /** Does it, and undoes it; resolves with what was not as it must be, when the devices are as before. */
  play(): Promise<string | undefined>
}

interface Stage {
  lab: ChurnLab
  /** Devices to which nothing happens now. */
  free: readonly ChurnDevice[]
  /** Devices that are prompted: to be asked for a ticket, and not let in anew. */
  sources: readonly ChurnDevice[]
  /** The command line of another version. */
  otherCli: string
}

const HOUR_MS = 3_600_000
const BUSY_ON_MS = 20
const BUSY_OFF_MS = 60
const COPY_NOTICED_MS = deadlineMs(30_000)

/** Draws one of a kind; undefined where there are too few devices to which nothing else happens. */
export function draw(kind: Kind, random: Random, stage: Stage): Happening | undefined {
  const { lab, free, sources } = stage
  const [first, second] = apart(random, free)
  const [amount, seconds] = [random(), 3 + random() * 12]
  if (first === undefined || second === undefined) return undefined
  const worker = free.find(device => !sources.includes(device))
  const lasts = (ms = 1000 * seconds) => delay(ms)
  /** What `act` resolves with is what was wrong, where it is a text. */
  const of = (told: string, devices: ChurnDevice[], act: () => Promise<unknown>): Happening => ({
    told: `${kind}: ${told}`,
    devices,
    play: async () => {
      const wrong = await act()
      return typeof wrong === 'string' ? wrong : undefined
    }
  })
  const struck = (device: ChurnDevice, told: string, act: () => Promise<unknown>): Happening =>
    of(`${device.name} ${told}`, [device], async () => {
      const end = device.strike()
      try {
        return await act()
      } finally {
        end()
      }
    })
  const kill = ({ pid }: ChurnDevice) => process.kill(pid, 'SIGKILL')
  const stopped = async (device: ChurnDevice, ms: number) => {
    const { pid } = device
    process.kill(pid, 'SIGSTOP')
    await delay(ms).finally(() => process.kill(pid, 'SIGCONT'))
  }
  switch (kind) {
    case 'kill':
      return struck(first, `is killed, and started again after ${seconds.toFixed(0)} s`, async () => {
        kill(first)
        await lasts()
        await lab.start(first)
      })
    case 'restart':
      return struck(first, 'is killed and started again', async () => {
        kill(first)
        await lab.start(first)
      })
    case 'sleep':
      return struck(first, `is suspended for ${(seconds / 2).toFixed(1)} s`, () =>
        stopped(first, 500 * seconds)
      )
    case 'long-sleep':
      // Longer than others take to call it gone.
      return struck(first, `is suspended for ${(seconds + 15).toFixed(0)} s`, () =>
        stopped(first, 1000 * (seconds + 15))
      )
    case 'busy':
      return of(`${first.name} has a quarter of its time for ${seconds.toFixed(0)} s`, [first], async () => {
        const { pid } = first
        const untilMs = performance.now() + 1000 * seconds
        while (performance.now() < untilMs) {
          process.kill(pid, 'SIGSTOP')
          await delay(BUSY_OFF_MS)
          process.kill(pid, 'SIGCONT')
          await delay(BUSY_ON_MS)
        }
      })
    case 'unplug':
      return of(`${first.name} for ${seconds.toFixed(0)} s`, [first], async () => {
        await lab.unplug(first)
        await lasts()
        await lab.plug(first)
      })
    case 'part':
      return of(`${first.name} and ${second.name} for ${seconds.toFixed(0)} s`, [first, second], async () => {
        await Promise.all([lab.mute(first, second, true), lab.mute(second, first, true)])
        await lasts()
        await Promise.all([lab.mute(first, second, false), lab.mute(second, first, false)])
      })
    case 'one-way':
      return of(
        `${second.name} hears nothing of ${first.name} for ${seconds.toFixed(0)} s`,
        [first, second],
        async () => {
          await lab.mute(first, second, true)
          await lasts()
          await lab.mute(first, second, false)
        }
      )
    case 'drift': {
      const link = { mbps: Math.round(2 + 200 * amount), latencyMs: Math.round(20 * amount) + 1 }
      const told = `${first.name} and ${second.name} have ${link.mbps} Mbps and ${link.latencyMs} ms for ${seconds.toFixed(0)} s`
      return of(told, [first, second], async () => {
        await lab.drift(first, second, link)
        await lasts()
        await lab.drift(first, second, null)
      })
    }
    case 'drain':
      return struck(first, `is drained for ${seconds.toFixed(0)} s`, async () => {
        await lab.cli(first, ['drain', '--stay', '--within', '20s']).catch((error: { stderr?: string }) => {
          // Where nobody else has the room its answers come to their end there, and that may be later.
          if (!/drain|still/i.test(String(error.stderr))) throw error
        })
        await lasts()
        await lab.cli(first, ['drain', '--undo'])
      })
    case 'join-anew':
      if (worker === undefined) return undefined
      return struck(worker, 'is emptied, and joins as another device', async () => {
        kill(worker)
        await delay(500)
        await lab.joinAnew(worker, sources.find(source => free.includes(source)) ?? sources[0]!)
        await lab.start(worker)
      })
    case 'clock': {
      const hours = Math.round((amount < 0.5 ? -1 : 1) * (2 + 30 * Math.abs(amount - 0.5)))
      return of(
        `the time of day of ${first.name} is off by ${hours} h for ${seconds.toFixed(0)} s`,
        [first],
        async () => {
          await lab.setClock(first, hours * HOUR_MS)
          await lasts()
          await lab.setClock(first, 0)
        }
      )
    }
    case 'disk-full':
      return of(`that of ${first.name} for ${seconds.toFixed(0)} s`, [first], async () => {
        const empty = await lab.fillDisk(first)
        await lasts().finally(empty)
      })
    case 'two-processes':
      return of(`another one is started on the home of ${first.name}`, [first], async () => {
        const refusal = await lab.cli(first, ['up', '--json']).then(
          () => 'it was not refused',
          (error: { stderr?: string; message: string }) => error.stderr ?? error.message
        )
        return refusal.includes('in use') ? undefined : `a second process on one home: ${refusal}`
      })
    case 'copied-home':
      return struck(first, 'has a copy of its home running elsewhere', async () => {
        const copy = await lab.copy(first)
        const isNotice = ({ event, message }: { event: string; message?: string }) =>
          event === 'notice' && /cop(y|ies)|same/i.test(message ?? '')
        const before = first.node!.events.length
        const noticed = await Promise.race([
          copy.event(isNotice).then(() => true),
          first
            .node!.event(event => first.node!.events.indexOf(event) >= before && isNotice(event))
            .then(() => true),
          delay(COPY_NOTICED_MS, false)
        ])
        await copy.stop()
        return noticed ? undefined : `nobody says that ${first.name} runs twice`
      })
    case 'other-version':
      if (worker === undefined) return undefined
      return struck(worker, `runs another version for ${(2 * seconds).toFixed(0)} s`, async () => {
        await lab.stop(worker)
        lab.use(worker, stage.otherCli)
        await lab.start(worker)
        await lasts(2000 * seconds)
        await lab.stop(worker)
        lab.use(worker, undefined)
        await lab.start(worker)
      })
  }
}

function apart(random: Random, devices: readonly ChurnDevice[]): (ChurnDevice | undefined)[] {
  if (devices.length < 2) return []
  const one = pickOf(random, devices)
  return [
    one,
    pickOf(
      random,
      devices.filter(device => device !== one)
    )
  ]
}
