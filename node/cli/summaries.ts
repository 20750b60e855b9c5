/** What each command is for, in `edgeshard --help`: which would otherwise load all of them, and with them the network. */
export const SUMMARIES: Readonly<Record<string, string>> = {
  up: "run this device's node",
  run: 'prompt the mesh once',
  chat: 'talk with the mesh',
  peers: 'list the devices of the mesh',
  models: 'list the models on this device',
  import: 'bring in a model that is on this disk',
  pull: 'bring in a model from the Hugging Face hub',
  rm: 'remove a model',
  privacy: 'measure what the next device could tell of a prompt',
  profile: 'time the layers of a model on this device',
  plan: 'say which device would compute which layers, and why',
  simulate: 'play a plan event by event',
  bench: 'measure the mesh',
  invite: 'print a ticket for another device',
  mesh: 'show and change who belongs to the mesh',
  drain: 'take this device out of service without cutting an answer',
  service: 'run the node as a service of the system',
  join: 'join the mesh that a ticket is from',
  doctor: 'find out what is wrong here',
  launch: 'say how another program uses this node',
  demo: 'watch three nodes share one model'
}
