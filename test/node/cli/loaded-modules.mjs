// Says at the end, on stderr, what this process has loaded.
import { writeSync } from 'node:fs'
import { registerHooks } from 'node:module'

const urls = []
registerHooks({
  load: (url, context, next) => {
    urls.push(url)
    return next(url, context)
  }
})
process.on('exit', () => {
  const ofNode = process.moduleLoadList.map(name => name.split(' ')[1])
  writeSync(2, `loaded ${JSON.stringify([...urls, ...ofNode])}\n`)
})
