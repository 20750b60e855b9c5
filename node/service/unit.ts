import { isAbsolute } from 'node:path'

/** What a unit of systemd is made of. */
export interface ServiceInit {
  /** The program and its arguments; the first is an absolute path. */
  command: readonly string[]
  /** User and group that it runs as: its own, with no other rights. */
  user: string
}

/** Name of the unit, and of its folders below /etc, /var/lib and /var/cache. */
export const SERVICE_NAME = 'edgeshard'
export const UNIT_PATH = `/etc/systemd/system/${SERVICE_NAME}.service`
export const STATE_DIR = `/var/lib/${SERVICE_NAME}`
export const CONFIG_PATH = `/etc/${SERVICE_NAME}/config.json`

/** Folders that ProtectHome=yes would hide from the service. */
const HOMES = ['/home/', '/root/', '/run/user/']

/**
 * The unit of a node as a service of systemd: started with the device, started again after a failure but not after a drain or
 * with options that cannot be right, and with nothing to write to but its own folders.
 *
 * @throws {TypeError} where the program is not named by an absolute path
 */
export function unitText({ command, user }: ServiceInit): string {
  const [program] = command
  if (program === undefined || !isAbsolute(program)) throw new TypeError(`${program} is no absolute path`)
  const isInHome = command.some(word => HOMES.some(home => word.startsWith(home)))
  return `[Unit]
Description=EdgeShard, a device of a mesh that runs large language models
Wants=network-online.target
After=network-online.target
# However often it fails, it is tried again.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${command.map(quoted).join(' ')}
User=${user}
Group=${user}
Environment=EDGESHARD_HOME=${STATE_DIR}
Environment=NODE_COMPILE_CACHE=/var/cache/${SERVICE_NAME}
StateDirectory=${SERVICE_NAME}
StateDirectoryMode=0700
CacheDirectory=${SERVICE_NAME}
CacheDirectoryMode=0700
UMask=0077
LimitNOFILE=65536

# "edgeshard drain" ends it with 0, so it stays away; 2 is an option or a file that is wrong, which no new start mends.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
# Longer than answers may take to end ("drain" of the configuration, 8 s).
TimeoutStopSec=30
KillMode=mixed

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=${isInHome ? 'read-only' : 'yes'}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
# Netlink lists the network's interfaces.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`
}

/** A word of a command line as systemd reads it. */
function quoted(word: string): string {
  const escaped = word.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w./:@=,+%-]+$/.test(escaped)
    ? escaped
    : `"${escaped.replace(/["\\]/g, character => `\\${character}`)}"`
}
