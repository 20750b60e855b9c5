import { Command } from 'commander'
import { PAGE_CODE_FRAGMENT } from '../../client/page-link.ts'

import { runningNode } from '../api-client.ts'
import { homeDir } from '../home.ts'

interface PageOptions {
  home?: string
  json?: boolean
}

/** `edgeshard page`: where the page of this device's node is, with what lets it pair. */
export function pageCommand(): Command {
  return new Command('page')
    .description(
      "Print a link to the page of this device's node: opened once, within five minutes, that page may let other devices in. Without it the page shows everything and lets in nobody."
    )
    .option('--home <dir>', 'home of the node (default: $EDGESHARD_HOME, else the data directory)')
    .option('--json', 'one JSON document on stdout')
    .action(page)
}

async function page({ home, json }: PageOptions): Promise<void> {
  const node = await runningNode({ home: homeDir(home) })
  const { code, leftMs } = await node.pageCode()
  const url = `${node.url}/${PAGE_CODE_FRAGMENT}${code}`
  if (json === true) {
    process.stdout.write(`${JSON.stringify({ url, code, leftMs })}\n`)
    return
  }
  process.stdout.write(`${url}\n`)
  if (process.stderr.isTTY) {
    process.stderr.write(
      `Open it in a browser of this device within ${Math.round(leftMs / 60_000)} minutes, or type ${code} where the page asks for it. It works once.\n`
    )
  }
}
