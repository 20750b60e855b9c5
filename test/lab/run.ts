// Runs a lab from a scenario file until Ctrl-C: `node test/lab/run.ts test/lab/home.json`. Prints what every node says
// and how to enter a host.
import { once } from 'node:events'
import { Lab, readScenario } from './lab.ts'
import { labProblem } from './permitted.ts'

const problem = labProblem()
const path = process.argv[2]
if (problem !== null || path === undefined) {
  process.stderr.write(`${problem ?? 'give a scenario file, such as test/lab/home.json'}\n`)
  process.exitCode = 2
} else {
  const scenario = await readScenario(path)
  await using lab = await Lab.create(scenario)
  const names = scenario.hosts.map(({ name }) => name)
  const nodes = [await lab.up(names[0]!)]
  for (const name of names.slice(1)) {
    await lab.cli(name, ['join'], await lab.cli(names[0]!, ['invite']))
    nodes.push(await lab.up(name))
  }
  for (const name of names) process.stdout.write(`${name}: ${lab.entry(name)}\n`)
  let seen = 0
  const timer = setInterval(() => {
    const events = nodes.flatMap(({ host, events }) => events.map(event => ({ host, ...event })))
    events.sort((a, b) => a.atMs - b.atMs)
    for (const event of events.slice(seen)) process.stdout.write(`${JSON.stringify(event)}\n`)
    seen = events.length
  }, 500)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  clearInterval(timer)
}
