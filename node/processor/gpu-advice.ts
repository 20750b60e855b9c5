/** What a person can do where no GPU is found, or none can be used. */
export const NO_GPU_ADVICE =
  process.platform === 'linux'
    ? "install its Vulkan driver (Debian and Ubuntu: mesa-vulkan-drivers and libvulkan1; NVIDIA's own driver has one) and start again; `edgeshard doctor` says what is found"
    : 'install its newest driver and start again; `edgeshard doctor` says what is found'
