import type { Architecture } from './architecture.ts'
import { deepseekV3 } from './deepseek-v3.ts'

/** Kimi K2: DeepSeek-V3 with more experts and no groups, under a name of its own; its class is DeepSeek's. */
export const kimiK2: Architecture = {
  ...deepseekV3,
  name: 'kimi_k2',
  models: 'Kimi K2'
}
