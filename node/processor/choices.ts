/** What is to compute layers. `auto`: the GPU where it was measured to be faster. */
export type DeviceChoice = 'auto' | 'cpu' | 'gpu'

export const DEVICE_CHOICES: readonly DeviceChoice[] = ['auto', 'cpu', 'gpu']
